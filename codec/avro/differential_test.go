package avro

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"math/big"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/hamba/avro/v2"

	"github.com/ingestd/ingestd/codec"
	"github.com/ingestd/ingestd/record"
)

// random makes schemas, and values for them as the library takes them.
type random struct {
	*rand.Rand
	names int
	flat  bool // no records and no unions but nullable ones: what has a column of its own
}

func (r *random) name(prefix string) string {
	r.names++
	return prefix + strconv.Itoa(r.names)
}

// schema returns a schema as JSON would have it.
func (r *random) schema(depth int) any {
	kinds := 18
	if depth <= 0 {
		kinds = 13
	}
	switch n := r.IntN(kinds); n {
	case 0:
		return "boolean"
	case 1:
		return "int"
	case 2:
		return "long"
	case 3:
		return "float"
	case 4:
		return "double"
	case 5:
		return "bytes"
	case 6, 7:
		return "string"
	case 8:
		return map[string]any{"type": "fixed", "name": r.name("F"), "size": 1 + r.IntN(5)}
	case 9:
		return map[string]any{"type": "enum", "name": r.name("E"), "symbols": []any{"A", "B", "C_3"}[:1+r.IntN(3)]}
	case 10:
		return map[string]any{"type": "int", "logicalType": "date"}
	case 11:
		return map[string]any{"type": "long", "logicalType": []string{"timestamp-millis", "timestamp-micros"}[r.IntN(2)]}
	case 12:
		p := 1 + r.IntN(30)
		return map[string]any{"type": "bytes", "logicalType": "decimal", "precision": p, "scale": r.IntN(p + 1)}
	case 13:
		return map[string]any{"type": "array", "items": r.schema(depth - 1)}
	case 14:
		return map[string]any{"type": "map", "values": r.schema(depth - 1)}
	case 15:
		return r.nullable(depth)
	default:
		if r.flat {
			return r.nullable(depth)
		}
		if n == 16 {
			return r.record(depth - 1)
		}
		return []any{"null", "int", "string", r.record(depth - 1)}[:2+r.IntN(3)]
	}
}

func (r *random) nullable(depth int) any {
	for {
		s := r.schema(depth - 1)
		if _, union := s.([]any); !union {
			return []any{"null", s}
		}
	}
}

func (r *random) record(depth int) any {
	var fields []any
	for range r.IntN(4) {
		fields = append(fields, map[string]any{"name": r.name("f"), "type": r.schema(depth)})
	}
	if fields == nil {
		fields = []any{}
	}
	return map[string]any{"type": "record", "name": r.name("R"), "fields": fields}
}

func (r *random) number() int64 {
	return int64(r.Uint64()) >> r.IntN(64)
}

func (r *random) text() string {
	runes := []rune("abc\"\\\n é\u2028😀{}")
	var b strings.Builder
	for range r.IntN(6) {
		b.WriteRune(runes[r.IntN(len(runes))])
	}
	return b.String()
}

// value returns a value as the library writes it.
func (r *random) value(s avro.Schema) any {
	s = deref(s)
	switch s := s.(type) {
	case *avro.PrimitiveSchema:
		return r.primitive(s)
	case *avro.FixedSchema:
		return r.fixed(s.Size())
	case *avro.EnumSchema:
		return s.Symbols()[r.IntN(len(s.Symbols()))]
	case *avro.ArraySchema:
		items := []any{}
		for range r.IntN(4) {
			items = append(items, r.value(s.Items()))
		}
		return items
	case *avro.MapSchema:
		pairs := map[string]any{}
		for range r.IntN(4) {
			pairs[r.text()] = r.value(s.Values())
		}
		return pairs
	case *avro.RecordSchema:
		fields := map[string]any{}
		for _, f := range s.Fields() {
			fields[f.Name()] = r.value(f.Type())
		}
		return fields
	case *avro.UnionSchema:
		t := s.Types()[r.IntN(len(s.Types()))]
		if t.Type() == avro.Null {
			return nil
		}
		return map[string]any{unionName(t): r.value(t)}
	}
	return nil
}

// unionName is how the library names a type of a union.
func unionName(s avro.Schema) string {
	s = deref(s)
	if named, ok := s.(avro.NamedSchema); ok {
		return named.FullName()
	}
	name := string(s.Type())
	if logical := logicalOf(s); logical != "" {
		name += "." + logical
	}
	return name
}

func (r *random) fixed(size int) any {
	raw := make([]byte, size)
	for i := range raw {
		raw[i] = byte(1 + r.IntN(255)) // a column of fixed_string cuts zeros at the end
	}
	switch size {
	case 1:
		return [1]byte(raw)
	case 2:
		return [2]byte(raw)
	case 3:
		return [3]byte(raw)
	case 4:
		return [4]byte(raw)
	}
	return [5]byte(raw)
}

func (r *random) primitive(s *avro.PrimitiveSchema) any {
	kind, _ := meaningOf(logicalOf(s))
	switch kind { //nolint:exhaustive // the others are not generated
	case meansDate:
		return time.Unix(int64(r.IntN(80_000)-40_000)*secondsPerDay, 0).UTC()
	case meansTimestamp:
		return time.UnixMilli(r.number() % (1 << 45)).UTC()
	case meansDecimal:
		d, _ := s.Logical().(*avro.DecimalLogicalSchema)
		digits := make([]byte, 1+r.IntN(d.Precision()))
		for i := range digits {
			digits[i] = '0' + byte(r.IntN(10))
		}
		n, _ := new(big.Int).SetString(string(digits), 10)
		if r.IntN(2) == 0 {
			n.Neg(n)
		}
		return new(big.Rat).SetFrac(n, new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(d.Scale())), nil))
	}
	switch s.Type() { //nolint:exhaustive // these are the primitive ones
	case avro.Boolean:
		return r.IntN(2) == 0
	case avro.Int:
		return int(int32(r.number()))
	case avro.Long:
		return r.number()
	case avro.Float:
		return float32(r.NormFloat64())
	case avro.Double:
		return r.NormFloat64() * math.Pow(10, float64(r.IntN(40)-20))
	case avro.Bytes:
		return []byte(r.text() + string([]byte{byte(r.IntN(256))}))
	}
	return r.text()
}

// wanted renders a value that the library gave, or takes, as JSON, by its schema and in another way than the decoder.
func wanted(t *testing.T, s avro.Schema, v any) any {
	t.Helper()
	s = deref(s)
	switch s := s.(type) {
	case *avro.UnionSchema:
		if v == nil {
			return nil
		}
		if pair, ok := v.(map[string]any); ok && len(pair) == 1 {
			for _, m := range s.Types() {
				if inner, ok := pair[unionName(m)]; ok {
					return wanted(t, m, inner)
				}
			}
		}
		for _, m := range s.Types() { // the library unwraps nullable ones
			if m.Type() != avro.Null {
				return wanted(t, m, v)
			}
		}
	case *avro.ArraySchema:
		out := []any{}
		items, _ := v.([]any)
		for _, item := range items {
			out = append(out, wanted(t, s.Items(), item))
		}
		return out
	case *avro.MapSchema:
		out := map[string]any{}
		pairs, _ := v.(map[string]any)
		for key, item := range pairs {
			out[key] = wanted(t, s.Values(), item)
		}
		return out
	case *avro.RecordSchema:
		out := map[string]any{}
		fields, _ := v.(map[string]any)
		for _, f := range s.Fields() {
			out[f.Name()] = wanted(t, f.Type(), fields[f.Name()])
		}
		return out
	}
	return wantedPlain(t, s, v)
}

func wantedPlain(t *testing.T, s avro.Schema, v any) any {
	t.Helper()
	bin := func(b []byte) any {
		if utf8.Valid(b) {
			return string(b)
		}
		return map[string]any{"base64": base64.StdEncoding.EncodeToString(b)}
	}
	switch v := v.(type) {
	case bool, string, nil:
		return v
	case int, int64:
		return json.Number(fmt.Sprint(v))
	case float32:
		return json.Number(string(appendReal(nil, float64(v), &node{wire: wireFloat})))
	case float64:
		return json.Number(string(appendReal(nil, v, &node{wire: wireDouble})))
	case []byte:
		return bin(v)
	case [1]byte:
		return bin(v[:])
	case [2]byte:
		return bin(v[:])
	case [3]byte:
		return bin(v[:])
	case [4]byte:
		return bin(v[:])
	case [5]byte:
		return bin(v[:])
	case *big.Rat:
		d, _ := s.(avro.LogicalTypeSchema).Logical().(*avro.DecimalLogicalSchema)
		return json.Number(v.FloatString(d.Scale()))
	case time.Time:
		switch logicalOf(s) {
		case logicalDate:
			return v.UTC().Format("2006-01-02")
		case logicalMS:
			return v.UTC().Format("2006-01-02T15:04:05.000Z")
		}
		return v.UTC().Format("2006-01-02T15:04:05.000000Z")
	}
	t.Fatalf("got a value of type %T", v)
	return nil
}

// parsed reads JSON with all digits.
func parsed(t *testing.T, text string) any {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return v
}

func schemaText(t *testing.T, s any) string {
	t.Helper()
	text, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// decodeOne decodes one record that must fit.
func decodeOne(t *testing.T, f *Factory, value []byte) *record.Batch {
	t.Helper()
	s, err := f.Schema(nil)
	if err != nil {
		t.Fatal(err)
	}
	d, err := f.New(s)
	if err != nil {
		t.Fatal(err)
	}
	b := record.NewBatch(s)
	if r, ok := d.Decode(b, value); !ok {
		t.Fatalf("%x: got refusal %+v", value, r)
	}
	return b
}

// blocks rewrites nothing: it says how the library writes arrays and maps, which must not matter.
func libraries() []avro.API {
	return []avro.API{avro.DefaultConfig, avro.Config{BlockLength: 1}.Freeze(), avro.Config{BlockLength: 2, DisableBlockSizeHeader: true}.Freeze()}
}

// Random values of random schemas, written by the library, become the same JSON and the same columns; records that are cut are
// refused, and none makes the decoder panic.
func TestDecoder_agreesWithTheLibrary(t *testing.T) {
	rounds := 3000
	if testing.Short() {
		rounds = 300
	}
	for seed := range uint64(rounds) {
		r := &random{Rand: rand.New(rand.NewPCG(seed, 7)), flat: seed%2 == 0}
		inner := r.schema(3)
		text := schemaText(t, map[string]any{"type": "record", "name": "Root", "fields": []any{map[string]any{"name": "v", "type": inner}}})
		s := avro.MustParse(text)
		v := r.value(s)
		data, err := libraries()[r.IntN(3)].Marshal(s, v)
		if err != nil {
			t.Fatalf("seed %d: the library does not write %v by %s: %v", seed, v, text, err)
		}
		f := plain(t, text)
		if !r.flat { // as a field of a record, all of it is JSON
			f = plain(t, `{"type":"record","name":"Out","fields":[{"name":"v","type":`+text+`}]}`)
		}
		b := decodeOne(t, f, data)
		got := parsed(t, string(codec.AppendJSON(nil, b, 0)))
		want := wanted(t, s, v)
		if !r.flat {
			want = map[string]any{"v": want}
			got = map[string]any{"v": parsed(t, string(b.Cols[0].BytesAt(0)))}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("seed %d, schema %s, value %x: (-library +decoder)\n%s", seed, text, data, diff)
		}
		cutAnywhere(t, f, b.Schema, data)
	}
}

func cutAnywhere(t *testing.T, f *Factory, s *record.Schema, data []byte) {
	t.Helper()
	d, err := f.New(s)
	if err != nil {
		t.Fatal(err)
	}
	b := record.NewBatch(s)
	for n := range data {
		if _, ok := d.Decode(b, data[:n]); ok {
			t.Fatalf("%x is taken, cut at %d", data, n)
		}
	}
}

// evolve changes a schema as people do: fields come, go, are renamed and widened, symbols come.
func (r *random) evolve(s any) any {
	switch s := s.(type) {
	case string:
		wider := map[string][]string{"int": {"long", "float", "double"}, "long": {"float", "double"}, "float": {"double"}, "string": {"bytes"}, "bytes": {"string"}}
		if to := wider[s]; to != nil && s != "bytes" && r.IntN(2) == 0 {
			return to[r.IntN(len(to))]
		}
		return s
	case []any:
		return s
	}
	in, _ := s.(map[string]any)
	out := map[string]any{}
	maps.Copy(out, in)
	switch in["type"] {
	case "array":
		out["items"] = r.evolve(in["items"])
	case "map":
		out["values"] = r.evolve(in["values"])
	case "enum":
		symbols, _ := in["symbols"].([]any)
		out["symbols"] = slices.Insert(slices.Clone(symbols), r.IntN(len(symbols)+1), any("NEW"))
	case "record":
		out["fields"] = r.evolveFields(in["fields"])
	}
	return out
}

func (r *random) evolveFields(in any) []any {
	fields, _ := in.([]any)
	out := []any{}
	for _, f := range fields {
		field, _ := f.(map[string]any)
		next := map[string]any{"name": field["name"], "type": r.evolve(field["type"])}
		switch r.IntN(5) {
		case 0:
			continue
		case 1:
			next["name"], next["aliases"] = r.name("renamed"), []any{field["name"]}
		}
		out = append(out, next)
	}
	for range r.IntN(3) {
		added := []map[string]any{
			{"type": "int", "default": -7},
			{"type": "string", "default": "dé"},
			{"type": []any{"null", "long"}, "default": nil},
			{"type": map[string]any{"type": "array", "items": "double"}, "default": []any{1.5, -2}},
			{"type": map[string]any{"type": "map", "values": "boolean"}, "default": map[string]any{"k": true}},
			{"type": map[string]any{"type": "enum", "name": r.name("D"), "symbols": []any{"X", "Y"}}, "default": "Y"},
			{
				"type":    map[string]any{"type": "record", "name": r.name("N"), "fields": []any{map[string]any{"name": "a", "type": "long", "default": 5}}},
				"default": map[string]any{},
			},
		}[r.IntN(7)]
		added["name"] = r.name("added")
		out = slices.Insert(out, r.IntN(len(out)+1), any(added))
	}
	return out
}

// Random values, read with schemas that evolved at random, become what the library's resolution of both schemas makes of them.
func TestDecoder_resolvesAsTheLibrary(t *testing.T) {
	rounds, compared := 4000, 0
	if testing.Short() {
		rounds = 400
	}
	for seed := range uint64(rounds) {
		r := &random{Rand: rand.New(rand.NewPCG(seed, 11))}
		writerTree := map[string]any{"type": "record", "name": "Root", "fields": []any{
			map[string]any{"name": "a", "type": r.schema(2)}, map[string]any{"name": "b", "type": r.record(2)},
		}}
		writerText, readerText := schemaText(t, writerTree), schemaText(t, r.evolve(writerTree))
		w := avro.MustParse(writerText)
		reader, err := avro.ParseWithCache(readerText, "", &avro.SchemaCache{})
		if err != nil {
			t.Fatalf("seed %d: %s: %v", seed, readerText, err)
		}
		v := r.value(w)
		data, err := avro.Marshal(w, v)
		if err != nil {
			t.Fatal(err)
		}
		resolved, err := avro.NewSchemaCompatibility().Resolve(reader, w)
		if err != nil {
			t.Fatalf("seed %d: the library does not resolve %s to %s: %v", seed, writerText, readerText, err)
		}
		var out any
		// Its caches take some resolved schemas for others.
		if err := (avro.Config{}).Freeze().Unmarshal(resolved, data, &out); err != nil {
			continue // its own limits; those of this decoder are in the other tests
		}
		n, err := resolve(w, reader)
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		d := &Decoder{bytesMax: 1 << 20, depthMax: depthMax, column: -1, reader: reader0(data)}
		text, ok := d.json(nil, n)
		if !ok || d.at != len(data) {
			t.Fatalf("seed %d: %s to %s: got refusal %+v %s", seed, writerText, readerText, d.refusal, d.problem)
		}
		if diff := cmp.Diff(wanted(t, reader, out), parsed(t, string(text)), cmp.Comparer(sameNumber)); diff != "" {
			t.Fatalf("seed %d, %s to %s, value %x: (-library +decoder)\n%s", seed, writerText, readerText, data, diff)
		}
		compared++
	}
	if compared < rounds/2 {
		t.Errorf("got %d values that the library reads, want most of %d", compared, rounds)
	}
}

func reader0(data []byte) reader { return reader{data: data} }

// sameNumber compares numbers by their value: promoted floats may be written in more digits.
func sameNumber(a, b json.Number) bool {
	if a == b {
		return true
	}
	x, errX := strconv.ParseFloat(string(a), 64)
	y, errY := strconv.ParseFloat(string(b), 64)
	return errX == nil && errY == nil && x == y && bytes.ContainsAny([]byte(a+b), ".eE")
}
