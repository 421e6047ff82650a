package record

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/ingestd/ingestd/fault"
)

func fromBase64(t *testing.T, text []byte) []byte {
	t.Helper()
	raw, err := base64.StdEncoding.DecodeString(string(text))
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func checkHeaders(t *testing.T, text []byte, key string, value []byte) {
	t.Helper()
	var list []map[string]*string
	if err := json.Unmarshal(text, &list); err != nil || len(list) != 1 {
		t.Fatalf("headers %s: %v", text, err)
	}
	get := func(name string) []byte {
		if v := list[0][name+"_base64"]; v != nil {
			return fromBase64(t, []byte(*v))
		}
		if v := list[0][name]; v != nil {
			return []byte(*v)
		}
		return nil
	}
	if got := get("key"); string(got) != key {
		t.Fatalf("headers %s: got key %q, want %q", text, got, key)
	}
	if got := get("value"); !bytes.Equal(got, value) || (got == nil) != (value == nil) {
		t.Fatalf("headers %s: got value %q, want %q", text, got, value)
	}
}

func mustDecode(t *testing.T, data []byte) *Batch {
	t.Helper()
	b, err := DecodeBatch(data)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestEncodeBatch_readsBackTheSame(t *testing.T) {
	b := testBatch(t, 30)
	b.Schema.Fields[3].Path, b.Schema.Fields[3].Optional = "a.b", true
	b.Schema.Fields[21].Type.Min, b.Schema.Fields[21].Type.Max = 0, 65535
	b.Cols[21].Type = b.Schema.Fields[21].Type
	got := mustDecode(t, EncodeBatchWith([]byte("prefix"), b, EncodeOptions{Raw: true})[len("prefix"):])
	if diff := cmp.Diff(b, got, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("with raw records (-want +got):\n%s", diff)
	}
	for i := range b.Meta.Keys { // nil and empty are different
		if (b.Meta.Keys[i] == nil) != (got.Meta.Keys[i] == nil) || (b.Meta.Values[i] == nil) != (got.Meta.Values[i] == nil) {
			t.Errorf("row %d: got key nil %t, value nil %t", i, got.Meta.Keys[i] == nil, got.Meta.Values[i] == nil)
		}
	}
	got = mustDecode(t, EncodeBatch(nil, b))
	checkBatch(t, got, 30)
	clear(b.Meta.Keys)
	clear(b.Meta.Values)
	clear(b.Meta.Headers)
	if diff := cmp.Diff(b, got, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("without raw records (-want +got):\n%s", diff)
	}
}

func TestEncodeBatch_emptyBatch(t *testing.T) {
	b := testBatch(t, 0)
	got := mustDecode(t, EncodeBatch(nil, b))
	checkBatch(t, got, 0)
}

// A decoded batch is read only, but it must serve as the source of a bigger one without being changed.
func TestDecodeBatch_appendsToAnotherBatch(t *testing.T) {
	data := EncodeBatch(nil, testBatch(t, 10))
	before := bytes.Clone(data)
	sum := NewBatch(testBatch(t, 0).Schema)
	for range 3 {
		part := mustDecode(t, data)
		for i := range sum.Cols {
			sum.Cols[i].AppendAll(&part.Cols[i])
		}
		for range part.Rows {
			sum.AppendMeta(RowMeta{})
		}
	}
	checkBatch(t, sum, 30)
	if !bytes.Equal(before, data) {
		t.Error("the encoded bytes changed")
	}
}

// Bytes that are cut, longer or wrong in one place are refused as corrupt, or are another valid batch; nothing else happens.
func TestDecodeBatch_survivesDamage(t *testing.T) {
	data := EncodeBatchWith(nil, testBatch(t, 5), EncodeOptions{Raw: true})
	for n := range data {
		if _, err := DecodeBatch(data[:n]); err == nil || fault.KindOf(err) != fault.Corrupt {
			t.Fatalf("%d of %d bytes: got error %v, want a corrupt one", n, len(data), err)
		}
	}
	if _, err := DecodeBatch(append(bytes.Clone(data), 0)); fault.KindOf(err) != fault.Corrupt {
		t.Errorf("one byte more: got error %v, want a corrupt one", err)
	}
	refused := 0
	for i := range data {
		for _, flip := range []byte{1, 0x80, 0xff} {
			damaged := bytes.Clone(data)
			damaged[i] ^= flip
			b, err := DecodeBatch(damaged)
			if err != nil {
				refused++
				continue
			}
			checkBatch(t, b, b.Rows)
		}
	}
	if refused == 0 {
		t.Error("got no refusal for any damaged byte")
	}
}

// What the bytes claim must not decide how much memory is taken.
func TestDecodeBatch_boundsItsMemory(t *testing.T) {
	claim := EncodeBatch(nil, NewBatch(schemaOf(t, "int8", "array(string)")))
	many := bytes.Clone(claim)
	binary.LittleEndian.PutUint32(many[8:], 1<<31-1) // rows
	fields := bytes.Clone(claim)
	binary.LittleEndian.PutUint32(fields[12:], 1<<32-1)
	names := append(bytes.Clone(claim[:headerSize]), 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f) // a name of 4 TiB
	deep := append(bytes.Clone(claim[:headerSize]), 0, 1, 'a', 0)
	for range 1000 {
		deep = append(deep, byte(Array), 0)
	}
	for name, data := range map[string][]byte{"rows": many, "fields": fields, "name": names, "depth": deep} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		if _, err := DecodeBatch(data); err == nil {
			t.Errorf("%s: got no error", name)
		}
		runtime.ReadMemStats(&after)
		if got := after.TotalAlloc - before.TotalAlloc; got > 1<<20 {
			t.Errorf("%s: got %d bytes allocated for %d bytes", name, got, len(data))
		}
	}
}

func TestDecodeBatch_otherVersionsAreNamed(t *testing.T) {
	data := EncodeBatch(nil, testBatch(t, 1))
	data[4] = 2
	if _, err := DecodeBatch(data); err == nil || !bytes.Contains([]byte(err.Error()), []byte("version 2")) {
		t.Errorf("got error %v, want one that names version 2", err)
	}
	data[4], data[5] = 1, 0x80
	if _, err := DecodeBatch(data); err == nil {
		t.Error("got no error for an unknown flag")
	}
}

func FuzzDecodeBatch(f *testing.F) {
	f.Add(EncodeBatch(nil, testBatch(f, 2)))
	f.Add(EncodeBatchWith(nil, testBatch(f, 1), EncodeOptions{Raw: true}))
	for _, text := range allTypes() {
		b := NewBatch(schemaOf(f, text))
		fill(b, 3, random(3, 1000))
		f.Add(EncodeBatchWith(nil, b, EncodeOptions{Raw: true}))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		b, err := DecodeBatch(data)
		if err != nil {
			if fault.KindOf(err) != fault.Corrupt {
				t.Fatalf("got kind %v, want corrupt", fault.KindOf(err))
			}
			return
		}
		checkBatch(t, b, b.Rows)
		// Every batch has one encoding.
		if again := EncodeBatchWith(nil, b, EncodeOptions{Raw: data[5]&flagRaw != 0}); !bytes.Equal(again, data) {
			t.Fatalf("got %x, want the bytes that were decoded, %x", again, data)
		}
	})
}

var rewrite = flag.Bool("rewrite", false, "write the golden file of the newest version")

// Every version of the format is read for ever: one file for each.
func TestDecodeBatch_goldenFiles(t *testing.T) {
	b := NewBatch(schemaOf(t, allTypes()...))
	fill(b, 3, random(11, 10_000))
	want := EncodeBatchWith(nil, b, EncodeOptions{Raw: true})
	path := filepath.Join("testdata", "batch-v1.bin")
	if *rewrite {
		if err := os.WriteFile(path, want, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(b, mustDecode(t, data), cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("the golden file reads differently (-want +got):\n%s", diff)
	}
	if !bytes.Equal(want, data) {
		t.Error("a batch is encoded in other bytes than in the golden file of version 1: a change of the format needs a new version")
	}
}

func BenchmarkEncodeBatch(b *testing.B) {
	batch := NewBatch(schemaOf(b, "int64", "timestamp(3)", "string", "nullable(string)", "float64", "decimal(18, 2)"))
	fill(batch, 8192, random(5, 1<<20))
	data := EncodeBatch(nil, batch)
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		data = EncodeBatch(data[:0], batch)
	}
}

func BenchmarkDecodeBatch(b *testing.B) {
	batch := NewBatch(schemaOf(b, "int64", "timestamp(3)", "string", "nullable(string)", "float64", "decimal(18, 2)"))
	fill(batch, 8192, random(5, 1<<20))
	data := EncodeBatch(nil, batch)
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := DecodeBatch(data); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkKeep(b *testing.B) {
	batch := NewBatch(schemaOf(b, "int64", "timestamp(3)", "string", "nullable(string)", "float64", "decimal(18, 2)"))
	fill(batch, 8192, random(5, 1<<20))
	work := NewBatch(batch.Schema)
	rows := make([]uint32, 0, batch.Rows)
	for i := 0; i < batch.Rows; i += 2 {
		rows = append(rows, uint32(i))
	}
	b.ReportAllocs()
	for b.Loop() {
		work.Reset()
		for i := range work.Cols {
			work.Cols[i].AppendAll(&batch.Cols[i])
		}
		for range batch.Rows {
			work.AppendMeta(RowMeta{})
		}
		work.Keep(rows)
	}
}
