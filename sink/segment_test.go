package sink

import (
	"bytes"
	"encoding/binary"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/cespare/xxhash/v2"
	"github.com/google/go-cmp/cmp"

	"github.com/ingestd/ingestd/fault"
)

var rewrite = flag.Bool("rewrite", false, "rewrite golden files")

func samplePayload() []byte {
	var b bytes.Buffer
	for i := range 200 {
		fmt.Fprintf(&b, `{"id":%d,"text":"row %d"}`+"\n", i, i*7919)
	}
	return b.Bytes()
}

func compressions() []Compression { return []Compression{None, S2, Zstd} }

// What is encoded is decoded, for every compression and for sizes around the limits of the compressors' blocks.
func TestSegment_roundTrip(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	noise := make([]byte, 70_000)
	for i := range noise {
		noise[i] = byte(random.Uint32())
	}
	payloads := [][]byte{{}, {1}, samplePayload(), noise, bytes.Repeat([]byte{'x'}, 1<<20), make([]byte, 1<<24)}
	for _, c := range compressions() {
		for _, payload := range payloads {
			info := SegmentInfo{Kind: "test/rows", Version: 7, Rows: 200, Compression: c}
			data, err := EncodeSegment(info, payload)
			if err != nil {
				t.Fatal(err)
			}
			got, back, err := DecodeSegment(data, SegmentBytesMax)
			if err != nil {
				t.Fatalf("%s, %d bytes: %v", c, len(payload), err)
			}
			if !bytes.Equal(back, payload) {
				t.Fatalf("%s: got %d other bytes, want %d", c, len(back), len(payload))
			}
			info.Compression = got.Compression // small or very even payloads are stored as they are
			if diff := cmp.Diff(info, got); diff != "" {
				t.Fatal(diff)
			}
		}
	}
}

// A payload above the reader's limit is refused before memory is taken for it.
func TestSegment_limitHolds(t *testing.T) {
	payload := samplePayload()
	for _, c := range compressions() {
		data, err := EncodeSegment(SegmentInfo{Kind: "k", Compression: c}, payload)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := DecodeSegment(data, int64(len(payload))-1); err == nil || fault.KindOf(err) != fault.Corrupt {
			t.Fatalf("%s: got %v, want corrupt", c, err)
		}
		if _, _, err := DecodeSegment(data, -1); err == nil {
			t.Fatal("a negative limit takes a payload")
		}
	}
}

// reseal mends the header's checksum after a change.
func reseal(data []byte) []byte {
	head := segmentFixed + int(data[offsetKindLength])
	binary.LittleEndian.PutUint64(data[head:], xxhash.Sum64(data[:head]))
	return data
}

// A header that declares a great size, with right checksums, costs no memory: the ratio bounds what stored bytes may become, and
// the compressed data must hold what is declared.
func TestSegment_bombIsRefused(t *testing.T) {
	for _, c := range []Compression{S2, Zstd} {
		data, err := EncodeSegment(SegmentInfo{Kind: "k", Compression: c}, bytes.Repeat([]byte("ab"), 2000))
		if err != nil {
			t.Fatal(err)
		}
		for _, declared := range []uint64{1 << 29, 1 << 40, 1 << 63, 4001, 3999, 0} {
			bomb := bytes.Clone(data)
			binary.LittleEndian.PutUint64(bomb[offsetPlain:], declared)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, _, err := DecodeSegment(reseal(bomb), SegmentBytesMax)
			runtime.ReadMemStats(&after)
			if err == nil || fault.KindOf(err) != fault.Corrupt {
				t.Fatalf("%s declaring %d: got %v, want corrupt", c, declared, err)
			}
			if took := after.TotalAlloc - before.TotalAlloc; took > 16<<20 {
				t.Fatalf("%s declaring %d: took %d bytes", c, declared, took)
			}
		}
	}
}

// Every changed, missing or added byte is found.
func TestSegment_everyDamageIsFound(t *testing.T) {
	for _, c := range compressions() {
		data, err := EncodeSegment(SegmentInfo{Kind: "kind", Rows: 3, Compression: c}, []byte("some rows, some rows, some rows, some rows"))
		if err != nil {
			t.Fatal(err)
		}
		for i := range data {
			for _, flip := range []byte{1, 0x80, 0xff} {
				bad := bytes.Clone(data)
				bad[i] ^= flip
				if _, _, err := DecodeSegment(bad, SegmentBytesMax); err == nil {
					t.Fatalf("%s: byte %d changed by %x is not seen", c, i, flip)
				}
			}
			if _, _, err := DecodeSegment(data[:i], SegmentBytesMax); err == nil {
				t.Fatalf("%s: %d of %d bytes are taken for a segment", c, i, len(data))
			}
		}
		if _, _, err := DecodeSegment(append(bytes.Clone(data), 0), SegmentBytesMax); err == nil {
			t.Fatal("a byte too many is not seen")
		}
	}
}

// A segment of a later format is no damage: the version that wrote it is to be run.
func TestSegment_laterVersionIsNamed(t *testing.T) {
	data, err := EncodeSegment(SegmentInfo{Kind: "k"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	data[offsetVersion]++
	_, _, err = DecodeSegment(data, SegmentBytesMax)
	if err == nil || fault.KindOf(err) != fault.Misconfigured || fault.RemedyOf(err) == "" {
		t.Fatalf("got %v, want misconfigured with a remedy", err)
	}
}

func TestSegment_infoIsChecked(t *testing.T) {
	long := string(bytes.Repeat([]byte("k"), segmentKindMax+1))
	for _, info := range []SegmentInfo{{}, {Kind: long}, {Kind: "k", Rows: -1}, {Kind: "k", Compression: Zstd + 1}} {
		if _, err := EncodeSegment(info, nil); err == nil {
			t.Errorf("%+v is taken", info)
		}
	}
}

// The files are kept for ever: each version of the format that was ever written can be read. -rewrite makes those of the newest.
func TestSegment_goldenFilesAreRead(t *testing.T) {
	payload := samplePayload()
	for _, c := range compressions() {
		name := filepath.Join("testdata", fmt.Sprintf("segment-v%d-%s.golden", segmentVersion, c))
		want := SegmentInfo{Kind: "golden/rows", Version: 2, Rows: 200, Compression: c}
		if *rewrite {
			data, err := EncodeSegment(want, payload)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(name, data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		got, back, err := DecodeSegment(data, SegmentBytesMax)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if diff := cmp.Diff(want, got); diff != "" || !bytes.Equal(back, payload) {
			t.Fatalf("%s: other content %s", name, diff)
		}
	}
}

func FuzzDecodeSegment(f *testing.F) {
	for _, c := range compressions() {
		data, err := EncodeSegment(SegmentInfo{Kind: "fuzz", Version: 1, Rows: 2, Compression: c}, []byte("rows rows rows rows rows rows"))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data, true)
	}
	f.Add([]byte(segmentMagic), false)
	f.Fuzz(func(t *testing.T, data []byte, mend bool) {
		if mend && len(data) >= segmentFixed && len(data) >= segmentFixed+int(data[offsetKindLength])+segmentChecksum {
			data = bytes.Clone(data)
			head := segmentFixed + int(data[offsetKindLength])
			stored := data[head+segmentChecksum:]
			binary.LittleEndian.PutUint64(data[offsetPayloadSum:], xxhash.Sum64(stored))
			binary.LittleEndian.PutUint64(data[offsetStored:], uint64(len(stored)))
			data = reseal(data)
		}
		const limit = 1 << 20
		info, payload, err := DecodeSegment(data, limit)
		if err != nil {
			return
		}
		if len(payload) > limit {
			t.Fatalf("%d bytes above the limit of %d", len(payload), limit)
		}
		again, err := EncodeSegment(info, payload)
		if err != nil {
			t.Fatal(err)
		}
		second, back, err := DecodeSegment(again, limit)
		if err != nil || !bytes.Equal(back, payload) {
			t.Fatalf("what was decoded is not encoded again: %v", err)
		}
		second.Compression = info.Compression
		if diff := cmp.Diff(info, second); diff != "" {
			t.Fatal(diff)
		}
	})
}
