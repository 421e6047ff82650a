package checkpoint

import (
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/record"
)

// Goal: the layout that is on people's disks does not change.
func TestNames_areTheLayout(t *testing.T) {
	for _, c := range []struct{ got, want string }{
		{StoreName, "store"},
		{PipelineName("orders"), "orders/pipeline"},
		{LogPrefix("orders", 0), "orders/log/0/"},
		{EntryName("orders", 0, 1), "orders/log/0/0000000000000001"},
		{EntryName("orders", 12, seqMax), "orders/log/12/9999999999999999"},
		{SegmentName(0, 7, 1), "staging/0/7/0000000000000001"},
		{ObjectName("orders", SegmentName(3, 7, 19)), "orders/staging/3/7/0000000000000019"},
	} {
		if c.got != c.want {
			t.Errorf("got %q, want %q", c.got, c.want)
		}
	}
	longest := strings.Repeat("p", pipelineIDBytesMax)
	for _, name := range []string{
		EntryName(longest, math.MaxUint32, seqMax), ObjectName(longest, SegmentName(math.MaxUint32, math.MaxUint64, math.MaxUint64)),
	} {
		if err := CheckName(name); err != nil {
			t.Errorf("got %v for the longest name, want nil", err)
		}
	}
}

func TestEntryName_sortsByNumber(t *testing.T) {
	var names []string
	for _, seq := range []Seq{1, 2, 9, 10, 11, 99, 100, 1 << 40, seqMax - 1, seqMax} {
		name := EntryName("p", 0, seq)
		names = append(names, name)
		got, err := ParseEntry("p", 0, name)
		if err != nil || got != seq {
			t.Errorf("got %d, %v from ParseEntry(%q), want %d", got, err, name, seq)
		}
	}
	if !slices.IsSorted(names) {
		t.Errorf("got %q, want the order of numbers", names)
	}
}

func TestParseEntry_refusesWhatIsNoPlaceInTheLog(t *testing.T) {
	for _, name := range []string{
		"", "p/log/0/", "p/log/0/1", "p/log/0/000000000000001", "p/log/0/00000000000000001", "p/log/0/0000000000000000",
		"p/log/0/000000000000000a", "p/log/0/+000000000000001", "p/log/0/0000000000000001/x", "p/log/0/0000000000000001.tmp",
		"p/log/1/0000000000000001", "q/log/0/0000000000000001", "log/0/0000000000000001", "p/log/00/0000000000000001",
		"p/log/0/99999999999999999999999999",
	} {
		_, err := ParseEntry("p", 0, name)
		wantFault(t, err, fault.Corrupt, "no place in the log")
	}
}

func TestParseSegment_isTheInverseOfSegmentName(t *testing.T) {
	lane, lease, err := parseSegment(SegmentName(math.MaxUint32, math.MaxUint64, 5))
	if err != nil || lane != math.MaxUint32 || lease != math.MaxUint64 {
		t.Errorf("got lane %d, lease %d, %v, want the highest of both", lane, lease, err)
	}
	for _, name := range []string{
		"", "staging", "staging/0/1", "staging/0/1/", "staging/0/1/a/b", "/staging/0/1/a", "p/staging/0/1/a", "state/0/1/a", "staging/0/0/a",
		"staging/00/1/a", "staging/0/01/a", "staging/-1/1/a", "staging/4294967296/1/a", "staging/0/18446744073709551616/a", "staging/0/x/a",
		"staging/0/1/..", "staging/0/1/a b",
	} {
		if lane, lease, err := parseSegment(name); err == nil {
			t.Errorf("got lane %d, lease %d for %q, want an error", lane, lease, name)
		}
	}
}

func TestCheckPipelineID_keepsNamesApart(t *testing.T) {
	for _, id := range []string{"a", "0", "orders", "Orders.v2_eu-west-1", "storex", strings.Repeat("a", 100)} {
		if err := CheckPipelineID(id); err != nil {
			t.Errorf("got %v for %q, want nil", err, id)
		}
	}
	for _, id := range []string{
		"", "store", ".", "..", ".a", "_a", "-a", "a/b", "a b", "ä", "a\x00", "a:b", "a~", strings.Repeat("a", 101),
	} {
		wantFault(t, CheckPipelineID(id), fault.Misconfigured, "pipeline ID")
	}
}

// Goal: one rule for all stores; what they do with a name is in storetest.
func TestCheckName_knowsTheAlphabet(t *testing.T) {
	for b := range 256 {
		name := "a" + string([]byte{byte(b)}) + "a"
		want := strings.IndexByte("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-/", byte(b)) >= 0
		if got := CheckName(name) == nil; got != want {
			t.Errorf("got %v for %q, want %v", got, name, want)
		}
	}
}

func FuzzParseEntry(f *testing.F) {
	f.Add("p/log/0/0000000000000001", uint32(0))
	f.Fuzz(func(t *testing.T, name string, lane uint32) {
		seq, err := ParseEntry("p", record.Lane(lane), name)
		if err == nil && EntryName("p", record.Lane(lane), seq) != name {
			t.Errorf("got %d for %q, which is not its name", seq, name)
		}
	})
}
