package inspect

import (
	"encoding/json"
	"strings"

	"github.com/ingestd/ingestd/codec"
	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/state"
)

// reader reads stored bytes as JSON. ok is false for bytes that are not what the type says.
type reader func(b []byte) (text json.RawMessage, ok bool)

// newReader returns the reader of values of a type as a descriptor names it, nil for a type that only its step knows.
func newReader(typ string) reader {
	switch typ {
	case (state.Int64{}).Type():
		return scalar(state.Int64{}.Decode, record.Int64, (*record.Column).AppendInt)
	case (state.Float64{}).Type():
		return scalar(state.Float64{}.Decode, record.Float64, (*record.Column).AppendFloat)
	case (state.String{}).Type():
		return scalar(state.String{}.Decode, record.String, (*record.Column).AppendString)
	case (state.Bool{}).Type():
		return scalar(state.Bool{}.Decode, record.Bool, (*record.Column).AppendBool)
	case (state.Bytes{}).Type():
		return func(b []byte) (json.RawMessage, bool) { return base64Text(b), true }
	case "nothing":
		return readNothing
	}
	return newTupleReader(typ)
}

// newKeyReader is newReader for a map's keys, which are stored so that they sort.
func newKeyReader(typ string) reader {
	switch typ {
	case (state.Int64{}).Type():
		return scalar(state.Int64{}.DecodeKey, record.Int64, (*record.Column).AppendInt)
	case (state.Float64{}).Type():
		return scalar(state.Float64{}.DecodeKey, record.Float64, (*record.Column).AppendFloat)
	case (state.String{}).Type(), (state.Bool{}).Type(), (state.Bytes{}).Type():
		return newReader(typ)
	}
	text, ok := strings.CutPrefix(typ, keyMark)
	if !ok {
		return nil
	}
	t, err := record.ParseType(text)
	if err != nil {
		return nil
	}
	return func(b []byte) (json.RawMessage, bool) {
		c := record.NewColumn(t)
		if state.ReadKey(b, &c) != nil {
			return nil, false
		}
		return codec.AppendJSONValue(nil, &c, 0), true
	}
}

// scalar reads one value by way of a column, which knows how it is written as JSON.
func scalar[T any](decode func([]byte) (T, error), kind record.Kind, appendTo func(*record.Column, T)) reader {
	return func(b []byte) (json.RawMessage, bool) {
		v, err := decode(b)
		if err != nil {
			return nil, false
		}
		c := record.NewColumn(record.Type{Kind: kind})
		appendTo(&c, v)
		return codec.AppendJSONValue(nil, &c, 0), true
	}
}

func readNothing(b []byte) (json.RawMessage, bool) { return nil, len(b) == 0 }

// newTupleReader reads "tuple(int64, string)" as an array.
func newTupleReader(typ string) reader {
	inner, ok := strings.CutPrefix(typ, "tuple(")
	if !ok {
		return nil
	}
	var tuple state.Tuple
	for _, text := range splitTop(strings.TrimSuffix(inner, ")")) {
		t, err := record.ParseType(text)
		if err != nil {
			return nil
		}
		tuple.Types = append(tuple.Types, t)
	}
	return func(b []byte) (json.RawMessage, bool) {
		cols := make([]record.Column, len(tuple.Types))
		pointers := make([]*record.Column, len(tuple.Types))
		for i := range cols {
			cols[i] = record.NewColumn(tuple.Types[i])
			pointers[i] = &cols[i]
		}
		if tuple.ReadRow(b, pointers...) != nil {
			return nil, false
		}
		return arrayText(cols), true
	}
}
