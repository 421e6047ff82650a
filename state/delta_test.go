package state

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"

	"github.com/ingestd/ingestd/fault"
)

// someDelta has keys that share much, little and nothing, empty values, and more shared bytes than a delta makes use of.
func someDelta(ops int) Delta {
	long := bytes.Repeat([]byte("p"), 2*sharedMax)
	d := Delta{Drops: []Range{{[]byte("a"), []byte("b")}, {[]byte("b"), []byte("bb")}, {[]byte{}, []byte("a")}}}
	d.Drops = []Range{d.Drops[2], d.Drops[0], d.Drops[1]}
	for i := range ops {
		key := fmt.Appendf(nil, "key-%06d", i)
		if i%3 == 0 {
			key = append(bytes.Clone(long), key...)
		}
		op := Op{Key: key, Delete: i%5 == 0}
		if !op.Delete {
			op.Value = bytes.Repeat([]byte{byte(i)}, i%7)
		}
		d.Ops = append(d.Ops, op)
	}
	slices.SortFunc(d.Ops, func(a, b Op) int { return bytes.Compare(a.Key, b.Key) })
	return d
}

// header is what EncodeDelta writes in front of a plain body.
func header(body []byte) []byte {
	b := append([]byte(deltaMagic), deltaVersion, 0, 0, 0)
	return append(binary.LittleEndian.AppendUint64(b, uint64(len(body))), body...)
}

func TestDelta_comesBackAsItWas(t *testing.T) {
	for _, ops := range []int{0, 1, 5, 20, 5000} {
		want := someDelta(ops)
		encoded := must[[]byte](t)(EncodeDelta([]byte("in front"), want))
		got := must[Delta](t)(DecodeDelta(bytes.TrimPrefix(encoded, []byte("in front"))))
		if diff := cmp.Diff(plain(want), plain(got)); diff != "" {
			t.Errorf("%d ops (-want +got):\n%s", ops, diff)
		}
	}
}

// Deltas of several tasks become one: the same as that of one task with all of it.
func TestEncodeDelta_mergesTasks(t *testing.T) {
	whole := someDelta(3000)
	parts := make([]Delta, 4)
	for i, op := range whole.Ops {
		p := &parts[i*7%4]
		p.Ops = append(p.Ops, op)
	}
	for i, r := range whole.Drops {
		parts[i].Drops = append(parts[i].Drops, r)
	}
	want := must[[]byte](t)(EncodeDelta(nil, whole))
	got := must[[]byte](t)(EncodeDelta(nil, parts...))
	if !bytes.Equal(got, want) {
		t.Error("the merged delta is not that of the whole")
	}
}

func TestEncodeDelta_refusesWhatIsNotADelta(t *testing.T) {
	k := func(s string) Op { return Op{Key: []byte(s)} }
	for name, deltas := range map[string][]Delta{
		"two tasks with a key": {{Ops: []Op{k("a"), k("b")}}, {Ops: []Op{k("b")}}},
		"not sorted":           {{Ops: []Op{k("b"), k("a")}}},
		"key twice":            {{Ops: []Op{k("a"), k("a")}}},
		"empty range":          {{Drops: []Range{{[]byte("a"), []byte("a")}}}},
		"ranges overlap":       {{Drops: []Range{{[]byte("a"), []byte("c")}, {[]byte("b"), []byte("d")}}}},
	} {
		if _, err := EncodeDelta(nil, deltas...); err == nil {
			t.Errorf("%s: got no error", name)
		}
	}
}

// Whatever bit is turned or byte is missing: a plain delta that differs from what was written is refused or says something that is
// encoded as exactly these bytes.
func TestDecodeDelta_isStrict(t *testing.T) {
	encoded := must[[]byte](t)(EncodeDelta(nil, someDelta(4)))
	encoded = header(unpacked(t, encoded))
	for n := range encoded {
		if _, err := DecodeDelta(encoded[:n]); err == nil || fault.KindOf(err) != fault.Corrupt {
			t.Fatalf("%d of %d bytes: got %v, want corrupt", n, len(encoded), err)
		}
		for bit := range 8 {
			flipped := bytes.Clone(encoded)
			flipped[n] ^= 1 << bit
			d, err := DecodeDelta(flipped)
			if err != nil {
				continue
			}
			if again := header(appendBody(nil, d)); !bytes.Equal(again, flipped) {
				t.Errorf("byte %d bit %d: taken, but encoded in another way", n, bit)
			}
		}
	}
	if _, err := DecodeDelta(append(bytes.Clone(encoded), 0)); err == nil {
		t.Error("bytes behind the delta are taken")
	}
}

func unpacked(tb testing.TB, encoded []byte) []byte {
	tb.Helper()
	if encoded[5]&flagZstd == 0 {
		return encoded[deltaHeader:]
	}
	return must[[]byte](tb)(unpack(encoded[deltaHeader:], binary.LittleEndian.Uint64(encoded[8:])))
}

// A few bytes that unpack to very many are refused without taking the memory.
func TestDecodeDelta_isNotBlownUp(t *testing.T) {
	encoder := must[*zstd.Encoder](t)(zstd.NewWriter(nil))
	packed := encoder.EncodeAll(make([]byte, 64<<20), nil)
	bomb := append([]byte(deltaMagic), deltaVersion, flagZstd, 0, 0)
	bomb = binary.LittleEndian.AppendUint64(bomb, 100)
	bomb = append(bomb, packed...)
	if _, err := DecodeDelta(bomb); err == nil || fault.KindOf(err) != fault.Corrupt {
		t.Errorf("got %v, want corrupt", err)
	}
	const window = 0xa0 // asks the reader to hold 1 GiB
	frame := []byte{0x28, 0xb5, 0x2f, 0xfd, 0x00, window, 0x03, 0x00, 0x00, 'a'}
	greedy := append(append([]byte(deltaMagic), deltaVersion, flagZstd, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0), frame...)
	if _, err := DecodeDelta(greedy); err == nil || !errors.Is(err, zstd.ErrWindowSizeExceeded) {
		t.Errorf("got %v, want a window that is too large", err)
	}
}

func FuzzDecodeDelta(f *testing.F) {
	for _, ops := range []int{0, 3, 300} {
		encoded := must[[]byte](f)(EncodeDelta(nil, someDelta(ops)))
		f.Add(encoded)
		f.Add(header(unpacked(f, encoded)))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		d, err := DecodeDelta(data)
		if err != nil {
			if fault.KindOf(err) != fault.Corrupt {
				t.Errorf("got %v, want corrupt", err)
			}
			return
		}
		encoded, err := EncodeDelta(nil, d)
		check(t, err)
		if !bytes.Equal(unpacked(t, encoded), unpacked(t, data)) {
			t.Error("a delta that was taken is encoded in another way")
		}
	})
}

// The chain tells deltas, their order and their numbers apart; its value is stored.
func TestNextChain_dependsOnAllBefore(t *testing.T) {
	var zero [32]byte
	a := NextChain(zero, 1, []byte("a"))
	seen := map[[32]byte]bool{zero: true, a: true}
	for _, c := range [][32]byte{
		NextChain(zero, 2, []byte("a")), NextChain(zero, 1, []byte("b")), NextChain(a, 1, []byte("a")), NextChain(a, 2, []byte("b")),
		NextChain(NextChain(zero, 1, []byte("b")), 2, []byte("a")), NextChain(zero, 1, nil),
	} {
		if seen[c] {
			t.Errorf("chain %x comes twice", c)
		}
		seen[c] = true
	}
	golden(t, "chain-1.txt", fmt.Sprintf("%x\n", NextChain(a, 2, []byte("b"))))
}
