package kafka

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/ingestd/ingestd/config"
	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/record"
)

func mustType(tb testing.TB, text string) record.Type {
	tb.Helper()
	typ, err := record.ParseType(text)
	if err != nil {
		tb.Fatal(err)
	}
	return typ
}

func schemaOf(tb testing.TB, fields ...string) *record.Schema {
	tb.Helper()
	s := &record.Schema{}
	for _, f := range fields {
		name, typ, _ := strings.Cut(f, " ")
		s.Fields = append(s.Fields, record.Field{Name: name, Type: mustType(tb, typ)})
	}
	return s
}

// formBatch has two rows: one with everything, one with as little as there may be.
func formBatch(tb testing.TB) *record.Batch {
	tb.Helper()
	b := record.NewBatch(schemaOf(tb, "id int64", "name nullable(string)", "gone nullable(bool)", "at nullable(timestamp(6))", "part int32", "day date", "tags array(string)"))
	b.Meta.Topic, b.Meta.Partition, b.Meta.Split = "in", 2, "in/2"
	b.Cols[0].AppendInt(7)
	b.Cols[1].AppendString("Ada")
	b.Cols[2].AppendBool(true)
	b.Cols[3].AppendInt(1_700_000_000_123_456)
	b.Cols[4].AppendInt(1)
	b.Cols[5].AppendInt(20_000)
	b.Cols[6].Elem.AppendString("x")
	b.Cols[6].CloseList()
	b.AppendMeta(record.RowMeta{Offset: 1, Timestamp: 1_650_000_000_000, Key: []byte("source key"), Headers: []record.Header{{Key: "from", Value: []byte("source")}}})
	b.Cols[0].AppendInt(-1)
	b.Cols[1].AppendNull()
	b.Cols[2].AppendNull()
	b.Cols[3].AppendNull()
	b.Cols[4].AppendInt(9)
	b.Cols[5].AppendInt(-1)
	b.Cols[6].CloseList()
	b.AppendMeta(record.RowMeta{Offset: 2, Timestamp: -1})
	return b
}

type formed struct {
	Key, Value string // "nil" for none
	Headers    string
	Timestamp  int64
	Partition  int32
	Refused    string
}

func formAll(t *testing.T, s Settings, tg target, b *record.Batch) []formed {
	t.Helper()
	s.Brokers, s.Topic = []string{"localhost:1"}, "out"
	s.defaults()
	if err := s.check(); err != nil {
		t.Fatal(err)
	}
	f, err := newFormer(&s, &tg, encoders{}, b.Schema)
	if err != nil {
		t.Fatal(err)
	}
	show := func(v []byte) string {
		if v == nil {
			return "nil"
		}
		return string(v)
	}
	var out []formed
	f.take(b)
	const now = 1_800_000_000_000
	for i := range b.Rows {
		p, ok, err := f.form(b, i, now)
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			out = append(out, formed{Refused: f.reason.Reason})
			continue
		}
		var headers []string
		for _, h := range f.row.headers {
			headers = append(headers, h.Key+"="+show(h.Value))
		}
		out = append(out, formed{show(f.row.key), show(f.row.value), strings.Join(headers, " "), f.row.timestamp, p, ""})
	}
	return out
}

func TestFormer_makesRecords(t *testing.T) {
	const all = `{"id":7,"name":"Ada","gone":true,"at":"2023-11-14T22:13:20.123456Z","part":1,"day":"2024-10-04","tags":["x"]}`
	const few = `{"id":-1,"name":null,"gone":null,"at":null,"part":9,"day":"1969-12-31","tags":[]}`
	for name, c := range map[string]struct {
		settings Settings
		target   target
		want     []formed
	}{
		"default": {Settings{}, target{partitions: 4}, []formed{{"nil", all, "", 1_650_000_000_000, 1, ""}, {"nil", few, "", 1_800_000_000_000, 2, ""}}},
		"columns, one key, tombstone": {
			Settings{Columns: []string{"name", "id"}, Key: []string{"name"}, Tombstone: "gone", Timestamp: timestampNow},
			target{partitions: 1},
			[]formed{{"Ada", "nil", "", 1_800_000_000_000, 0, ""}, {"nil", `{"name":null,"id":-1}`, "", 1_800_000_000_000, 0, ""}},
		},
		"several key columns, headers, a timestamp": {
			Settings{
				Value: "name", Key: []string{"id", "name"}, KeepHeaders: true, Headers: []config.Entry{{Key: "n", Value: "name"}, {Key: "d", Value: "day"}},
				Timestamp: timestampColumn, TimestampColumn: "at",
			},
			target{partitions: 1},
			[]formed{
				{`{"id":7,"name":"Ada"}`, "Ada", "from=source n=Ada d=2024-10-04", 1_700_000_000_123, 0, ""},
				{`{"id":-1,"name":null}`, "nil", "n=nil d=1969-12-31", 1_800_000_000_000, 0, ""},
			},
		},
		"as the source": {
			Settings{Value: "name", KeepKey: true, KeepHeaders: true, Partitioner: partitionSource},
			target{partitions: 3},
			[]formed{{"source key", "Ada", "from=source", 1_650_000_000_000, 2, ""}, {"nil", "nil", "", 1_800_000_000_000, 2, ""}},
		},
		"a partition column, and a day before 1970": {
			Settings{Value: "name", Partitioner: partitionColumn, PartitionColumn: "part", Timestamp: timestampColumn, TimestampColumn: "day"},
			target{partitions: 10},
			[]formed{{"nil", "Ada", "", 20_000 * 86_400_000, 1, ""}, {Refused: "the timestamp is before 1970"}},
		},
		"a partition that is not there": {
			Settings{Value: "name", Partitioner: partitionColumn, PartitionColumn: "part"},
			target{partitions: 9},
			[]formed{{"nil", "Ada", "", 1_650_000_000_000, 1, ""}, {Refused: "the partition is not below 9"}},
		},
		"a compacted topic": {
			Settings{Value: "name", KeepKey: true},
			target{partitions: 1, compacted: true},
			[]formed{{"source key", "Ada", "", 1_650_000_000_000, 0, ""}, {Refused: "the topic is compacted, and the record has no key"}},
		},
		"limits of the topic's time": {
			Settings{Value: "name"},
			target{partitions: 4, before: 1000},
			[]formed{{Refused: "the timestamp is older than the topic's message.timestamp.before.max.ms allows"}, {"nil", "nil", "", 1_800_000_000_000, 1, ""}},
		},
	} {
		if diff := cmp.Diff(c.want, formAll(t, c.settings, c.target, formBatch(t))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// A partition that the topic lacks is a mistake in the settings, not in the record.
func TestFormer_sourcePartitionMustExist(t *testing.T) {
	s := Settings{Brokers: []string{"localhost:1"}, Topic: "out", Partitioner: partitionSource}
	s.defaults()
	b := formBatch(t)
	f, err := newFormer(&s, &target{partitions: 2}, encoders{}, b.Schema)
	if err != nil {
		t.Fatal(err)
	}
	f.take(b)
	if _, _, err := f.form(b, 0, 0); fault.KindOf(err) != fault.Misconfigured || !strings.Contains(fault.RemedyOf(err), "--partitions 3") {
		t.Errorf("got %v, want misconfigured with a remedy", err)
	}
	b.Meta.Topic = ""
	if _, _, err := f.form(b, 0, 0); err == nil {
		t.Error("rows without a source's partition are taken")
	}
}

func TestFormer_wrongColumnsAreNamed(t *testing.T) {
	for key, s := range map[string]Settings{
		"value":            {Value: "id"},
		"columns":          {Columns: []string{"nothing"}},
		"key":              {Key: []string{"tags"}},
		"tombstone":        {Tombstone: "name"},
		"timestamp_column": {Timestamp: timestampColumn, TimestampColumn: "id"},
		"partition_column": {Partitioner: partitionColumn, PartitionColumn: "name"},
		"headers.h":        {Headers: []config.Entry{{Key: "h", Value: "tags"}}},
	} {
		s.Brokers, s.Topic = []string{"localhost:1"}, "out"
		s.defaults()
		if _, err := newFormer(&s, &target{partitions: 1}, encoders{}, formBatch(t).Schema); err == nil || !strings.HasPrefix(err.Error(), key+": ") {
			t.Errorf("%s: got %v", key, err)
		}
	}
}

// A dead letter's raw bytes are the record's value, also when they are no UTF-8 and stand in another column.
func TestFormer_deadLettersKeepTheirBytes(t *testing.T) {
	b := record.NewBatch(record.DeadLetterSchema())
	values := [][]byte{[]byte("text"), {0xff, 0, 0x80}, nil, {}}
	for i, v := range values {
		record.AppendDeadLetter(b, record.DeadLetter{Split: "in/0", Topic: "in", Offset: record.Offset(i), Timestamp: 5, Key: v, Value: v, Stage: "decode", Reason: "r", Byte: -1})
	}
	got := formAll(t, Settings{Value: "value", Key: []string{"key"}, Headers: []config.Entry{{Key: "reason", Value: "reason"}}}, target{partitions: 1}, b)
	var want []formed
	for _, v := range values {
		text := "nil"
		if v != nil {
			text = string(v)
		}
		want = append(want, formed{Key: text, Value: text, Headers: "reason=r", Timestamp: 5})
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
