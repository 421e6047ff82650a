package checkpoint

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/sink"
	"github.com/ingestd/ingestd/source"
)

var rewrite = flag.Bool("rewrite", false, "write the golden files that are missing; one that is there is kept for ever")

const testStoreID = "00112233445566778899aabbccddeeff"

func claimEntry() Entry {
	return Entry{Claim: &Claim{
		Lease: 3, Nonce: "5f0c", StoreID: testStoreID, Pipeline: "orders", Lane: 0, Who: "host-1 pid 4711 ingestd 0.1", Time: 1_790_000_000_123,
	}}
}

// firstManifest is what a run publishes before its first record: positions and no data.
func firstManifest() Entry {
	return Entry{Manifest: &Manifest{
		StoreID: testStoreID, Pipeline: "orders", Lease: 1, Checkpoint: 1, ConfigDigest: "sha256:12", Time: 1_790_000_000_123,
		Shards: []Shard{{ID: "orders/0", Epoch: 1, Status: ShardOwned, Splits: []source.Split{{
			Position: source.Position{Split: "orders/0", Identity: "topic-id", LeaderEpoch: record.NoLeaderEpoch}, Until: source.Unbounded,
		}}}},
		Sinks: []SinkState{{Name: "sink"}},
	}}
}

// fullManifest has every member set.
func fullManifest() Entry {
	lane := record.Lane(0)
	segment := func(lease record.Lease, n uint64) sink.Segment {
		return sink.Segment{Name: SegmentName(lane, lease, n), Bytes: 1 << 20, Rows: 1000, Checksum: math.MaxUint64}
	}
	return Entry{Manifest: &Manifest{
		StoreID: testStoreID, Pipeline: "orders", Lane: lane, Lease: 3, Checkpoint: 42, ConfigDigest: "sha256:12", Time: 1_790_000_000_123,
		Author: "anna", Reason: "skip what \"never\" <fits> & Ärger\u2028\n",
		Shards: []Shard{
			{ID: StateShard, Epoch: 1, Status: ShardOwned, State: &KeyedState{
				Groups: 256, Watermark: math.MinInt64, Version: 1, Data: []byte(`{"seq":7}`), Objects: []string{"state/0/2/d7", "state/0/3/b1"},
			}},
			{ID: "orders/0", Epoch: 1, Status: ShardOwned, Splits: []source.Split{{
				Position: source.Position{Split: "orders/0", Identity: "topic-id", Offset: math.MaxInt64, LeaderEpoch: 7}, Until: math.MaxInt64, Finished: true,
			}}},
			{ID: "orders/1", Epoch: 4, Status: ShardOwned, From: []record.Lane{1, 2}, Splits: []source.Split{{
				Position: source.Position{Split: "orders/1", Identity: "topic-id", Offset: 5, LeaderEpoch: record.NoLeaderEpoch}, Until: source.Unbounded,
			}}},
		},
		Sinks: []SinkState{
			{
				Name: "sink", Lease: 2, Checkpoint: 40, State: []byte{0, 1, 2, 0xff},
				Pending: []sink.Committable{
					{Lease: 2, Checkpoint: 41, Unit: 1, Rows: 1000, Bytes: 1 << 20, Segments: []sink.Segment{segment(2, 1)}, Version: 1, Data: []byte("by the sink")},
					{Lease: 3, Checkpoint: 42, Unit: 0, Rows: 2000, Bytes: 2 << 20, Segments: []sink.Segment{segment(3, 1), segment(3, 2)}, Version: 1},
				},
			},
			{Name: "dead_letter"},
		},
		Replaced: []Replaced{{Sink: "sink", Lease: 2, Checkpoint: 41, Unit: 0, By: 1, Rows: []int64{0, 17}}},
		Counters: Counters{
			Stages: []StageCount{
				{Stage: "source", In: 100, Passed: 100},
				{Stage: "decode", In: 100, Passed: 97, Refused: 3},
				{Stage: "step:f", In: 97, Passed: 90, Filtered: 7},
				{Stage: "sink:sink", In: 90, Passed: 88, Refused: 2},
			},
			DeadLetters: 5,
			Earlier:     []StageCount{{Stage: "decode", In: 10, Passed: 9, Refused: 1}},
		},
		Kept: []Seq{7, 9},
	}}
}

// pinnedManifest has a pin.
func pinnedManifest() Entry {
	e := fullManifest()
	e.Manifest.Pinned = []Pin{{Seq: 7, Objects: []string{"state/0/1/d3", "state/0/2/d7"}}, {Seq: 9}}
	return e
}

// routedManifest has several sinks with rows of their own, one of which collects them.
func routedManifest() Entry {
	e := fullManifest()
	m := e.Manifest
	m.Sinks = []SinkState{m.Sinks[0], {Name: "archive", Lease: 1, Checkpoint: 12, Held: 80, State: []byte("{}")}, m.Sinks[1]}
	m.Counters.Stages = append(m.Counters.Stages[:3:3],
		StageCount{Stage: "route", In: 90, Passed: 85, Filtered: 5},
		StageCount{Stage: "sink:sink", In: 85, Passed: 50, Filtered: 33, Refused: 2},
		StageCount{Stage: "sink:archive", In: 85, Passed: 80, Filtered: 4, Refused: 1},
	)
	m.Counters.DeadLetters = 6
	return e
}

func entries() map[string]Entry {
	return map[string]Entry{
		"manifest-routed.v1.entry": routedManifest(),
		"manifest-pinned.v1.entry": pinnedManifest(),
		"claim.v1.entry":           claimEntry(),
		"manifest-first.v1.entry":  firstManifest(),
		"manifest-full.v1.entry":   fullManifest(),
	}
}

// Goal: what any version wrote is read for ever, and the format does not change without a new version.
func TestEntry_goldenFilesAreReadAndWritten(t *testing.T) {
	for name, want := range entries() {
		t.Run(name, func(t *testing.T) {
			data := golden(t, name, func() []byte { return mustEncode(t, want) })
			got, err := Decode(data)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("decoded (-want +got):\n%s", diff)
			}
			if again := mustEncode(t, got); !bytes.Equal(again, data) {
				t.Errorf("encoded again it differs: a changed format needs a new version\n%s", cmp.Diff(string(data), string(again)))
			}
		})
	}
}

// golden reads a file of testdata.
func golden(t *testing.T, name string, fresh func() []byte) []byte {
	t.Helper()
	path := filepath.Join("testdata", name)
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) && *rewrite {
		data = fresh()
		err = os.WriteFile(path, data, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// Goal: the log is decided by comparing bytes, so the same entry has the same bytes, whatever its slices are made of.
func TestEncode_isDeterministic(t *testing.T) {
	for name, e := range entries() {
		want := mustEncode(t, e)
		for range 50 {
			if got := mustEncode(t, e); !bytes.Equal(got, want) {
				t.Fatalf("%s: got other bytes the second time", name)
			}
		}
	}
	empty := firstManifest()
	empty.Manifest.Sinks[0].Pending = []sink.Committable{}
	empty.Manifest.Sinks[0].State = []byte{}
	empty.Manifest.Counters.Stages = []StageCount{}
	if !bytes.Equal(mustEncode(t, empty), mustEncode(t, firstManifest())) {
		t.Error("got other bytes for empty slices than for nil, want the same")
	}
}

func TestEncode_refusesWhatIsNoEntry(t *testing.T) {
	both := claimEntry()
	both.Manifest = firstManifest().Manifest
	unchecked := firstManifest()
	unchecked.Manifest.Lease = 0
	text := firstManifest()
	text.Manifest.Shards[0].Splits[0].Split = "caf\xe9.log"
	for _, c := range []struct {
		name string
		e    Entry
		kind fault.Kind
		want string
	}{
		{"neither", Entry{}, fault.Corrupt, "neither"},
		{"both", both, fault.Corrupt, "both"},
		{"a broken rule", unchecked, fault.Corrupt, "lease 0"},
		{"no UTF-8", text, fault.Misconfigured, "UTF-8"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Encode(c.e)
			wantFault(t, err, c.kind, c.want)
		})
	}
	if checkSize(ObjectBytesMax) != nil || checkSize(ObjectBytesMax+1) == nil {
		t.Errorf("got %v and %v, want the bound to be %d", checkSize(ObjectBytesMax), checkSize(ObjectBytesMax+1), ObjectBytesMax)
	}
}

// reseal gives changed body text a correct header, as a faulty writer would.
func reseal(kind, body string) []byte { return seal(kind, []byte(body)) }

// bodyOf returns the JSON of an entry, changed in one place.
func bodyOf(t *testing.T, e Entry, from, to string) string {
	t.Helper()
	data := string(mustEncode(t, e))
	_, body, _ := strings.Cut(data, "\n")
	if strings.Count(body, from) == 0 {
		t.Fatalf("%q is not in the body", from)
	}
	return strings.Replace(body, from, to, 1)
}

// Goal: nothing is read that Encode can't have written. Each case is a body with a right checksum.
func TestDecode_refusesWhatEncodeDoesNotWrite(t *testing.T) {
	for _, c := range []struct{ name, from, to, want string }{
		{"an unknown member", `"lease": 1`, `"lease": 1, "x": 2`, `unknown`},
		{"an unknown member below", `"epoch": 1`, `"epoch": 1, "leaving": true`, `unknown`},
		{"a repeated member", `"lease": 1`, `"lease": 1, "lease": 1`, `duplicate`},
		{"a member in other case", `"lease": 1`, `"Lease": 1`, `unknown`},
		{"a missing member", `"lane": 0,`, ``, `puts "lane"`},
		{"a missing member that would be zero", `"finished": false`, `"until": -1`, `duplicate`},
		{"null in place of a number", `"lane": 0`, `"lane": null`, `puts "0"`},
		{"null in place of a list", `"shards": [`, `"shards": null, "x": [`, `unknown`},
		{"a number in another form", `"lane": 0`, `"lane": -0`, `/lane`},
		{"a fraction", `"lease": 1`, `"lease": 1.5`, `/lease`},
		{"a negative lease", `"lease": 1`, `"lease": -1`, `/lease`},
		{"a number above its type", `"epoch": 1`, `"epoch": 18446744073709551616`, `/epoch`},
		{"a text in place of a number", `"lease": 1`, `"lease": "1"`, `/lease`},
		{"an unknown status", `"owned"`, `"leaving"`, `status "leaving" is not known`},
		{"another value behind the first", "\n}\n", "\n}\n{}\n", `after`},
		{"no JSON", `{`, `[`, ``},
		{"cut JSON", "\n}\n", "\n", ``},
		{"no UTF-8", `"orders/0"`, "\"orders\xff0\"", `UTF-8`},
		{"an unwritten default", `"sinks"`, `"author": "", "sinks"`, `"author"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			body := bodyOf(t, firstManifest(), c.from, c.to)
			_, err := Decode(reseal(kindManifest, body))
			wantFault(t, err, fault.Corrupt, c.want)
			if !strings.Contains(err.Error(), "byte ") {
				t.Errorf("got %q, want the place", err)
			}
		})
	}
	_, err := Decode(reseal(kindManifest, bodyOf(t, fullManifest(), `"state": "AAEC/w=="`, `"state": "AAEC/x=="`)))
	wantFault(t, err, fault.Corrupt, "/sinks/0/state")
}

// Goal: the place that an error names is the place of the damage.
func TestDecode_namesThePlace(t *testing.T) {
	body := bodyOf(t, firstManifest(), `"status": "owned"`, `"status": 7`)
	data := reseal(kindManifest, body)
	_, err := Decode(data)
	place, ok := errors.AsType[*placeError](err)
	if !ok {
		t.Fatalf("got %v, want an error with a place", err)
	}
	at := bytes.Index(data, []byte("7,"))
	if place.offset < at-3 || place.offset > at+1 || !strings.Contains(err.Error(), "/shards/0/status") {
		t.Errorf("got %q, want byte %d and /shards/0/status", err, at)
	}
}

func TestDecode_refusesEveryDamagedHeader(t *testing.T) {
	good := string(mustEncode(t, claimEntry()))
	header, body, _ := strings.Cut(good, "\n")
	fields := strings.Split(header, " ")
	with := func(i int, text string) string {
		changed := slices.Clone(fields)
		changed[i] = text
		return strings.Join(changed, " ") + "\n" + body
	}
	for _, c := range []struct {
		name, data string
		kind       fault.Kind
		want       string
	}{
		{"nothing", "", fault.Corrupt, "byte 0"},
		{"another file", "PK\x03\x04", fault.Corrupt, "byte 0"},
		{"only magic", "ingestd ", fault.Corrupt, "does not end"},
		{"a header without end", "ingestd 1 " + strings.Repeat("x", 1000), fault.Corrupt, "byte 256"},
		{"a newer version", with(1, "2"), fault.Misconfigured, "newer version"},
		{"a newer version with another header", "ingestd 99 zstd\n\x28\xb5", fault.Misconfigured, "newer version"},
		{"version 0", with(1, "0"), fault.Corrupt, "version"},
		{"version 01", with(1, "01"), fault.Corrupt, "version"},
		{"a version beyond all numbers", with(1, "99999999999999999999999"), fault.Corrupt, "version"},
		{"another kind", with(2, "segment"), fault.Corrupt, "segment"},
		{"a store in the log", with(2, kindStore), fault.Corrupt, "no entry"},
		{"a claim called manifest", with(2, kindManifest), fault.Corrupt, "unknown"},
		{"a length that is too small", with(3, "10"), fault.Corrupt, "follow the body"},
		{"a length that is too large", with(3, "100000"), fault.Corrupt, "cut off"},
		{"a length that is no number", with(3, "+"+fields[3]), fault.Corrupt, "length"},
		{"another checksum", with(4, "sha256:"+strings.Repeat("0", 64)), fault.Corrupt, "checksum"},
		{"a checksum in capitals", with(4, strings.ToUpper(fields[4])), fault.Corrupt, "checksum"},
		{"a field too many", header + " x\n" + body, fault.Corrupt, "fields"},
		{"a field too few", strings.Join(fields[:4], " ") + "\n" + body, fault.Corrupt, "fields"},
		{"two spaces", strings.Replace(header, " ", "  ", 1) + "\n" + body, fault.Corrupt, "version"},
		{"a carriage return", header + "\r\n" + body, fault.Corrupt, "checksum"},
		{"bytes behind the end", good + "x", fault.Corrupt, "1 bytes follow"},
		{"two entries", good + good, fault.Corrupt, "follow the body"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Decode([]byte(c.data))
			wantFault(t, err, c.kind, c.want)
		})
	}
	_, err := Decode(make([]byte, ObjectBytesMax+1))
	wantFault(t, err, fault.Corrupt, "bound")
}

// Goal: no cut and no flipped bit is taken for an entry.
func TestDecode_findsEveryCutAndEveryFlippedBit(t *testing.T) {
	data := mustEncode(t, claimEntry())
	for n := range data {
		if _, err := Decode(data[:n]); err == nil || fault.KindOf(err) != fault.Corrupt {
			t.Fatalf("got %v for the first %d of %d bytes, want fault.Corrupt", err, n, len(data))
		}
	}
	version := len(frameMagic) + 1
	for i := range data {
		for bit := range 8 {
			flipped := bytes.Clone(data)
			flipped[i] ^= 1 << bit
			_, err := Decode(flipped)
			if err == nil {
				t.Fatalf("got nil with bit %d of byte %d flipped, want an error", bit, i)
			}
			// The version is not in the checksum: a flipped one may look newer, which stops the pipeline as well.
			if kind := fault.KindOf(err); kind != fault.Corrupt && (kind != fault.Misconfigured || i != version) {
				t.Fatalf("got %v with bit %d of byte %d flipped, want fault.Corrupt", err, bit, i)
			}
		}
	}
}

// Goal: whatever is decoded keeps every rule and is encoded to an entry that is the same. Bodies get a right header, so that the
// fuzzer reaches what lies behind the checksum.
func FuzzDecodeEntry(f *testing.F) {
	for _, e := range entries() {
		data, err := Encode(e)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data, false)
		_, body, _ := bytes.Cut(data, []byte("\n"))
		f.Add(body, true)
	}
	f.Add([]byte(`{"lease":1,"lease":2}`), true)
	f.Add([]byte("ingestd 2 claim"), false)
	f.Fuzz(func(t *testing.T, data []byte, resealed bool) {
		inputs := [][]byte{data}
		if resealed {
			inputs = [][]byte{seal(kindClaim, data), seal(kindManifest, data)}
		}
		for _, in := range inputs {
			e, err := Decode(in)
			if err != nil {
				if kind := fault.KindOf(err); kind != fault.Corrupt && kind != fault.Misconfigured {
					t.Fatalf("got %v of kind %v", err, kind)
				}
				continue
			}
			out, err := Encode(e)
			if err != nil {
				t.Fatalf("decoded and not encoded again: %v", err)
			}
			again, err := Decode(out)
			if err != nil {
				t.Fatalf("encoded and not decoded again: %v", err)
			}
			if diff := cmp.Diff(e, again); diff != "" {
				t.Fatalf("another entry after a round trip (-first +second):\n%s", diff)
			}
		}
	})
}

// Goal: the bound for a manifest is far above what a large pipeline needs, in size and in time.
func BenchmarkEncode_tenThousandSplits(b *testing.B) {
	e := firstManifest()
	one := e.Manifest.Shards[0]
	e.Manifest.Shards = nil
	for i := range 10_000 {
		s := one
		s.ID = fmt.Sprintf("orders/%05d", i)
		s.Splits = slices.Clone(one.Splits)
		s.Splits[0].Split = s.ID
		e.Manifest.Shards = append(e.Manifest.Shards, s)
	}
	for b.Loop() {
		data, err := Encode(e)
		if err != nil {
			b.Fatal(err)
		}
		b.SetBytes(int64(len(data)))
	}
}

func mustEncode(t *testing.T, e Entry) []byte {
	t.Helper()
	data, err := Encode(e)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func wantFault(t *testing.T, err error, kind fault.Kind, text string) {
	t.Helper()
	if err == nil || fault.KindOf(err) != kind || !strings.Contains(err.Error(), text) {
		t.Fatalf("got %v, want an error of kind %v with %q", err, kind, text)
	}
}
