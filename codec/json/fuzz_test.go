package json

import (
	"bytes"
	stdjson "encoding/json"
	"strings"
	"testing"

	"github.com/ingestd/ingestd/codec"
	"github.com/ingestd/ingestd/record"
)

// FuzzDecode checks that no input panics or damages the batch, that what is taken reads back the same, and that what is
// taken is valid JSON by encoding/json.
func FuzzDecode(f *testing.F) {
	s := testSchema(f, "i", "nullable(int64)", "u", "nullable(uint128)", "f", "nullable(float64)", "d", "nullable(decimal(20, 4))",
		"s", "nullable(string)", "x", "nullable(fixed_string(4))", "b", "nullable(bool)", "t", "nullable(timestamp(6))",
		"day", "nullable(date)", "id", "nullable(uuid)", "ip", "nullable(ipv6)", "e", `nullable(enum("a" = 1, "b" = 2))`,
		"l", "nullable(array(array(nullable(int16))))", "m", "nullable(map(string, array(string)))", "n:o.p.q", "nullable(int8)")
	flat := &record.Schema{Fields: append([]record.Field(nil), s.Fields...)}
	for i := range flat.Fields {
		flat.Fields[i].Path = ""
	}
	_, records := flatRecords(3)
	_, wide := wideRecords(3)
	for _, r := range append(records, wide...) {
		f.Add(r)
	}
	for _, r := range []string{
		`{"i":-1,"u":340282366920938463463374607431768211455,"f":1.5e300,"d":"1.5","s":"\ud83d\ude00","x":"ab","b":true}`,
		`{"t":"2026-11-03T10:11:12.5Z","day":"2024-02-29","id":"0f8fad5b-d9cb-469f-a165-70867728950e","ip":"::1","e":"b"}`,
		`{"l":[[1,null],[]],"m":{"a":["x"],"b":[]},"o":{"p":{"q":1}}}`, `{"f":"NaN","t":0.5}`, `{"o":null,"z":[{"y":[]}]}`, `{"i":1,"i":2}`,
	} {
		f.Add([]byte(r))
	}
	settings := Settings{TimestampNumbers: UnixS}
	empty := record.EncodeBatch(nil, record.NewBatch(s))
	f.Fuzz(func(t *testing.T, value []byte) {
		b := record.NewBatch(s)
		if r, ok := newTestDecoder(t, s, settings).Decode(b, value); !ok {
			if !bytes.Equal(empty, record.EncodeBatch(nil, b)) {
				t.Fatalf("the refusal of %q changed the batch", value)
			}
			if r.Reason == "" || r.Byte < -1 || r.Byte > int64(len(value)) {
				t.Fatalf("got refusal %+v of %d bytes", r, len(value))
			}
			return
		}
		if !stdjson.Valid(value) {
			t.Fatalf("took %q, which encoding/json finds invalid", value)
		}
		b.AppendMeta(record.RowMeta{})
		text := codec.AppendJSON(nil, b, 0)
		if !stdjson.Valid(text) {
			t.Fatalf("wrote %q, which encoding/json finds invalid", text)
		}
		again := record.NewBatch(flat)
		if r, ok := newTestDecoder(t, flat, settings).Decode(again, text); !ok {
			t.Fatalf("%q became %q, which is refused: %+v", value, text, r)
		}
		again.AppendMeta(record.RowMeta{})
		again.Schema = s // it differs in paths only
		if !bytes.Equal(record.EncodeBatch(nil, b), record.EncodeBatch(nil, again)) {
			t.Fatalf("%q became %q, which reads as %s", value, text, codec.AppendJSON(nil, again, 0))
		}
	})
}

// FuzzDecode_acceptance compares with encoding/json for a type where both mean the same: a string member and an integer one.
func FuzzDecode_acceptance(f *testing.F) {
	for _, r := range []string{`{"s":"a","i":1}`, `{"s":"\u00e9","i":-5,"z":[1,{"s":2}]}`, `{"s":1}`, `{"i":1.5}`, `{"i":1e2}`, `{"s":"\ud800"}`} {
		f.Add([]byte(r))
	}
	s := testSchema(f, "s", "nullable(string)", "i", "nullable(int64)")
	f.Fuzz(func(t *testing.T, value []byte) {
		var want struct {
			S *string `json:"s"`
			I *int64  `json:"i"`
		}
		b := record.NewBatch(s)
		_, ok := newTestDecoder(t, s, Settings{}).Decode(b, value)
		err := stdjson.Unmarshal(value, &want)
		switch {
		case !ok:
			return // stricter: UTF-8, names that come twice, depth
		case err != nil && strings.Contains(err.Error(), "number") && b.Cols[1].Len() == 1:
			return // an integer written as 1.0 or 1e2
		case err != nil:
			t.Fatalf("took %q, encoding/json says %v", value, err)
		}
		if bytes.Contains(bytes.ToLower(value), []byte(`"S"`)) || hasFolded(value) {
			return // encoding/json does not tell upper from lower case in names
		}
		if null := b.Cols[0].IsNull(0); null != (want.S == nil) || !null && string(b.Cols[0].BytesAt(0)) != *want.S {
			t.Fatalf("%q: got s null %t, want %v", value, null, want.S)
		}
		if null := b.Cols[1].IsNull(0); null != (want.I == nil) || !null && b.Cols[1].Int(0) != *want.I {
			t.Fatalf("%q: got i null %t, want %v", value, null, want.I)
		}
	})
}

// hasFolded reports whether an object has a name that encoding/json takes for s or i though it is written otherwise.
func hasFolded(value []byte) bool {
	var members map[string]stdjson.RawMessage
	if stdjson.Unmarshal(value, &members) != nil {
		return true
	}
	for name := range members {
		if name != "s" && name != "i" && (strings.EqualFold(name, "s") || strings.EqualFold(name, "i")) {
			return true
		}
	}
	return false
}
