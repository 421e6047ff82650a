package avro

import (
	"github.com/hamba/avro/v2"
)

// The logical types, by their names in schemas.
const (
	logicalDecimal   = "decimal"
	logicalDate      = "date"
	logicalUUID      = "uuid"
	logicalDuration  = "duration"
	logicalTimeMS    = "time-millis"
	logicalTimeUS    = "time-micros"
	logicalMS        = "timestamp-millis"
	logicalUS        = "timestamp-micros"
	logicalNS        = "timestamp-nanos"
	logicalLocalMS   = "local-timestamp-millis"
	logicalLocalUS   = "local-timestamp-micros"
	logicalLocalNS   = "local-timestamp-nanos"
	uuidBytes        = 16
	durationBytes    = 12
	digitsMS         = 3
	digitsUS         = 6
	digitsNS         = 9
	decimalBytesMost = 32
)

// logicalOf returns the name of a schema's logical type where that is valid, else "": readers must ignore others.
func logicalOf(s avro.Schema) string {
	if l, ok := s.(avro.LogicalTypeSchema); ok && l.Logical() != nil {
		return string(l.Logical().Type())
	}
	// Those that the library does not know.
	p, ok := s.(avro.PropertySchema)
	if !ok {
		return ""
	}
	name, ok := p.Prop("logicalType").(string)
	fixed, isFixed := s.(*avro.FixedSchema)
	switch {
	case !ok:
	case s.Type() == avro.Long && (name == logicalNS || name == logicalLocalNS):
		return name
	case isFixed && fixed.Size() == uuidBytes && name == logicalUUID:
		return name
	}
	return ""
}

// logical sets the meaning of a node by the logical types of both schemas. The reader's says what the value is, but a number's
// unit is the one that it was written in: the writer's scale and ticks hold where both have the same kind of type.
func (r *resolver) logical(n *node, w, s avro.Schema) error {
	wants, has := logicalOf(s), logicalOf(w)
	if wants == "" {
		return nil
	}
	kind, digits := meaningOf(wants)
	n.meaning, n.digits = kind, digits
	setDecimal(n, s)
	if has == "" || has == wants && kind != meansDecimal {
		return nil
	}
	writes, digits := meaningOf(has)
	if writes != kind {
		n.refused = typeName(w) + " can't be read as " + typeName(s)
		return nil
	}
	n.digits = digits
	setDecimal(n, w)
	return nil
}

func setDecimal(n *node, s avro.Schema) {
	l, ok := s.(avro.LogicalTypeSchema)
	if !ok {
		return
	}
	if d, ok := l.Logical().(*avro.DecimalLogicalSchema); ok {
		n.scale = d.Scale()
	}
}

// meaningOf returns what a logical type means, and how many digits behind the second it has.
func meaningOf(name string) (kind meaning, digits int) {
	switch name {
	case logicalDecimal:
		return meansDecimal, 0
	case logicalDate:
		return meansDate, 0
	case logicalUUID:
		return meansUUID, 0
	case logicalDuration:
		return meansDuration, 0
	case logicalTimeMS:
		return meansTime, digitsMS
	case logicalTimeUS:
		return meansTime, digitsUS
	case logicalMS:
		return meansTimestamp, digitsMS
	case logicalUS:
		return meansTimestamp, digitsUS
	case logicalNS:
		return meansTimestamp, digitsNS
	case logicalLocalMS:
		return meansLocal, digitsMS
	case logicalLocalUS:
		return meansLocal, digitsUS
	case logicalLocalNS:
		return meansLocal, digitsNS
	}
	return meansPlain, 0
}
