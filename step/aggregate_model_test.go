package step

import (
	"fmt"
	"math/big"
	"math/rand/v2"
	"slices"
	"sort"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ingestd/ingestd/codec"
	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/state"
)

// allColumns has every aggregate.
func allColumns() []AggregateColumn {
	return []AggregateColumn{
		{"n", "count()"},
		{"nv", "count(v)"},
		{"total", "sum(v)"},
		{"twice", "sum((v ?? 0) * 2)"},
		{"mean", "avg(v)"},
		{"least", "min(v)"},
		{"most", "max(word)"},
		{"head", "first(word)"},
		{"tail", "last(v)"},
		{"words", "collect(word, 7)"},
		{"kinds", "count_distinct(v, 1000)"},
		{"about", "approx_count_distinct(word)"},
		{"often", "top_k(word, 2)"},
		{"money", "sum(price)"},
		{"price", "avg(price)"},
	}
}

// numberText is how a number is written in a column of a type.
func numberText(t *testing.T, typ, number string) string {
	t.Helper()
	parsed, err := record.ParseType(typ)
	if err != nil {
		t.Fatal(err)
	}
	c := record.NewColumn(parsed)
	if err := codec.AppendText(&c, []byte(number)); err != nil {
		t.Fatal(err)
	}
	return string(codec.AppendJSONValue(nil, &c, 0))
}

// expected recomputes all aggregates of some rows, in order of arrival, with nothing of the step's own code.
func expected(t *testing.T, rows []keyedRow) string {
	t.Helper()
	var nv, total, twice, cents int64
	least, tail := int64(1<<40), "null"
	var words []string
	kinds, counts := map[int64]bool{}, map[string]int{}
	most := ""
	for _, row := range rows {
		cents += row.v
		most = max(most, row.word)
		counts[row.word]++
		if len(words) < 7 {
			words = append(words, strconv.Quote(row.word))
		}
		if row.v == nullV {
			continue
		}
		nv++
		total += row.v
		twice += 2 * row.v
		least = min(least, row.v)
		tail = fmt.Sprint(row.v)
		kinds[row.v] = true
	}
	often := make([]string, 0, len(counts))
	for word := range counts {
		often = append(often, word)
	}
	sort.Slice(often, func(i, j int) bool {
		a, b := often[i], often[j]
		return counts[a] > counts[b] || counts[a] == counts[b] && a < b
	})
	for i := range often {
		often[i] = strconv.Quote(often[i])
	}
	totalText, meanText, leastText := "null", "null", "null"
	if nv > 0 {
		totalText, leastText = fmt.Sprint(total), fmt.Sprint(least)
		meanText = numberText(t, "float64", strconv.FormatFloat(float64(total)/float64(nv), 'g', -1, 64))
	}
	price := big.NewRat(cents, 100*int64(len(rows)))
	return strings.Join([]string{
		fmt.Sprint(len(rows)), fmt.Sprint(nv), totalText, fmt.Sprint(twice), meanText, leastText, strconv.Quote(most),
		strconv.Quote(rows[0].word), tail, "[" + strings.Join(words, ",") + "]", fmt.Sprint(len(kinds)), fmt.Sprint(len(counts)),
		"[" + strings.Join(often[:min(2, len(often))], ",") + "]",
		numberText(t, "decimal(38, 2)", big.NewRat(cents, 100).FloatString(2)), numberText(t, "decimal(38, 6)", price.FloatString(6)),
	}, " ")
}

func keyText(key string) string {
	if key == "" {
		return "null"
	}
	return strconv.Quote(key)
}

func timeText(ms int64) string {
	return strconv.Quote(time.UnixMilli(ms).UTC().Format("2006-01-02T15:04:05.000Z"))
}

// watermarks returns the watermark after each number of batches, as a tracker of one split sees it.
func watermarks(batches [][]keyedRow, disorder time.Duration) func(done int) int64 {
	w := NewWatermarkTracker(WatermarkOptions{Disorder: disorder})
	w.Add("in/0", state.NoTime, 0)
	list := []int64{state.NoTime}
	for _, rows := range batches {
		for _, row := range rows {
			w.Observe("in/0", row.at, 0)
		}
		list = append(list, w.Watermark(0))
	}
	return func(done int) int64 { return list[done] }
}

// spanOf is a window, or a session, of a key.
type spanOf struct {
	key        string
	start, end int64
}

// modelWindows puts rows into tumbling or hopping windows one by one and returns what is final, and the number of late rows.
func modelWindows(t *testing.T, w Window, lateness time.Duration, batches [][]keyedRow, watermark func(int) int64) (out []string, late int) {
	t.Helper()
	size, slide := w.Size.Milliseconds(), w.Slide.Milliseconds()
	if w.Kind == Tumbling {
		slide = size
	}
	windows := map[spanOf][]keyedRow{}
	finish := func(upTo int64) {
		for span, rows := range windows {
			if span.end+lateness.Milliseconds() <= upTo {
				out = append(out, strings.Join([]string{keyText(span.key), timeText(span.start), timeText(span.end), expected(t, rows)}, " "))
				delete(windows, span)
			}
		}
	}
	for i, rows := range batches {
		for _, row := range rows {
			in := 0
			// All multiples of the slide are looked at that may begin a window with the row in it.
			for n := (row.at - size) / slide; n*slide+w.Offset.Milliseconds() <= row.at; n++ {
				start := n*slide + w.Offset.Milliseconds()
				if start+size <= row.at || start+size+lateness.Milliseconds() <= watermark(i) {
					continue
				}
				in++
				span := spanOf{row.key, start, start + size}
				windows[span] = append(windows[span], row)
			}
			if in == 0 {
				late++
			}
		}
		finish(watermark(i + 1))
	}
	finish(1 << 60)
	return out, late
}

func sameRows(t *testing.T, got, want []string) {
	t.Helper()
	slices.Sort(got)
	slices.Sort(want)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("rows (-want +got):\n%s", diff)
	}
}

// TestAggregate_windowsAgreeWithModel drives windows of all kinds over random rows with checkpoints, restarts and other numbers of
// tasks, and recomputes every window from the rows.
func TestAggregate_windowsAgreeWithModel(t *testing.T) {
	for seed := range uint64(12) {
		random := rand.New(rand.NewPCG(seed, 1))
		w := []Window{
			{Kind: Tumbling, Size: 5 * time.Second},
			{Kind: Tumbling, Size: 7 * time.Second, Offset: 2 * time.Second},
			{Kind: Hopping, Size: 10 * time.Second, Slide: 3 * time.Second, Offset: time.Second},
			{Kind: Hopping, Size: 4 * time.Second, Slide: 4 * time.Second},
		}[seed%4]
		lateness := time.Duration(random.IntN(3)) * 4 * time.Second
		batches := randomRows(random, 60, 6)
		watermark := watermarks(batches, 2*time.Second)
		step := &Aggregate{
			ID: "agg", Key: []string{"key"}, Columns: allColumns(), Window: w, Start: "from", End: "to", TimeColumn: "at",
			AllowedLateness: lateness, Late: []Late{LateDeadLetter, LateDrop}[seed%2],
		}
		r := newRig(t, step, keyedSchema(t), 8)
		r.workMax = random.IntN(8) // a few entries at a time, so that batches are worked on in parts
		got := r.history(random, batches, watermark)
		want, late := modelWindows(t, w, lateness, batches, watermark)
		sameRows(t, got, want)
		r.balanced(0)
		if n := int(r.res.Late) + len(r.res.Refused); n != late {
			t.Errorf("late rows: got %d, want %d", n, late)
		}
		r.checkpoint()
		if left := leftovers(t, r, "closed"); len(left) > 0 {
			t.Errorf("after the end state holds %q", left)
		}
		if step.Late == LateDrop && len(r.res.Refused) > 0 || step.Late == LateDeadLetter && r.res.Late > 0 {
			t.Errorf("late rows went the wrong way: %+v", r.res)
		}
		if t.Failed() {
			t.Fatalf("seed %d, %s", seed, w.String())
		}
	}
}

// TestAggregate_lostWatermarkNeverRepeatsAWindow restarts without any watermark, so rows of windows that have ended come again as
// if they were in time: no window may be final twice.
func TestAggregate_lostWatermarkNeverRepeatsAWindow(t *testing.T) {
	for _, w := range []Window{{Kind: Tumbling, Size: time.Second}, {Kind: Session, Gap: time.Second}} {
		step := &Aggregate{
			ID: "agg", Key: []string{"key"}, Columns: []AggregateColumn{{"n", "count()"}}, Window: w, Start: "from", End: "to", TimeColumn: "at",
		}
		r := newRig(t, step, keyedSchema(t), 1)
		r.open(1)
		rows := []keyedRow{{key: "a", at: 100}, {key: "a", at: 200}}
		r.process(keyedBatch(r.in, 0, rows))
		if got := r.advance(2000, 0); len(got) != 1 {
			t.Fatalf("%s: got %q, want one window", w.String(), got)
		}
		r.checkpoint()
		r.open(1)
		r.process(keyedBatch(r.in, 10, rows))
		if got := append(r.advance(5000, 0), r.end()...); len(got) != 0 || len(r.res.Refused) != 2 {
			t.Errorf("%s: got %q and %d late rows, want no window and 2", w.String(), got, len(r.res.Refused))
		}
	}
}

// modelSessions joins rows to sessions one by one. A row alone, or with all that it touches, is late if that has ended.
func modelSessions(t *testing.T, gap, lateness time.Duration, batches [][]keyedRow, watermark func(int) int64) (out []string, late int) {
	t.Helper()
	type session struct {
		spanOf
		rows []keyedRow
	}
	var open []session
	finish := func(upTo int64) {
		open = slices.DeleteFunc(open, func(s session) bool {
			if s.end+lateness.Milliseconds() > upTo {
				return false
			}
			out = append(out, strings.Join([]string{keyText(s.key), timeText(s.start), timeText(s.end), sessionText(s.rows)}, " "))
			return true
		})
	}
	for i, rows := range batches {
		for _, row := range rows {
			joined := session{spanOf{row.key, row.at, row.at + gap.Milliseconds()}, nil}
			touches := func(s session) bool { return s.key == row.key && s.start < row.at+gap.Milliseconds() && row.at < s.end }
			for _, s := range open {
				if touches(s) {
					joined.start, joined.end, joined.rows = min(joined.start, s.start), max(joined.end, s.end), append(joined.rows, s.rows...)
				}
			}
			if joined.end+lateness.Milliseconds() <= watermark(i) {
				late++
				continue
			}
			joined.rows = append(joined.rows, row)
			open = append(slices.DeleteFunc(open, touches), joined)
		}
		finish(watermark(i + 1))
	}
	finish(1 << 60)
	return out, late
}

// sessionText recomputes what does not depend on the order in which sessions were joined.
func sessionText(rows []keyedRow) string {
	total, words, kinds := int64(0), []string{}, map[int64]bool{}
	for _, row := range rows {
		words = append(words, row.word)
		if row.v != nullV {
			total += row.v
			kinds[row.v] = true
		}
	}
	slices.Sort(words)
	totalText := fmt.Sprint(total)
	if len(kinds) == 0 {
		totalText = "null"
	}
	return fmt.Sprintf("%d %s [%s] %d", len(rows), totalText, strings.Join(words, ","), len(kinds))
}

// TestAggregate_sessionsAgreeWithModel does the same with sessions, which grow together while they lie in state.
func TestAggregate_sessionsAgreeWithModel(t *testing.T) {
	for seed := range uint64(12) {
		random := rand.New(rand.NewPCG(seed, 2))
		lateness := time.Duration(random.IntN(3)) * 2 * time.Second
		gap := time.Duration(1+random.IntN(4)) * 700 * time.Millisecond
		batches := randomRows(random, 60, 5)
		watermark := watermarks(batches, 2*time.Second)
		step := &Aggregate{
			ID: "agg", Key: []string{"key"}, Window: Window{Kind: Session, Gap: gap}, Start: "from", End: "to", TimeColumn: "at", AllowedLateness: lateness,
			Columns: []AggregateColumn{{"n", "count()"}, {"total", "sum(v)"}, {"words", "collect(word)"}, {"kinds", "count_distinct(v)"}},
		}
		r := newRig(t, step, keyedSchema(t), 8)
		r.workMax = random.IntN(8) // a few entries at a time, so that batches are worked on in parts
		got := r.history(random, batches, watermark)
		for i, row := range got { // the list in order of its values
			from, to := strings.Index(row, "["), strings.Index(row, "]")
			words := strings.Split(strings.ReplaceAll(row[from+1:to], `"`, ""), ",")
			slices.Sort(words)
			got[i] = row[:from+1] + strings.Join(words, ",") + row[to:]
		}
		want, late := modelSessions(t, gap, lateness, batches, watermark)
		sameRows(t, got, want)
		r.balanced(0)
		if len(r.res.Refused) != late {
			t.Errorf("late rows: got %d, want %d", len(r.res.Refused), late)
		}
		r.checkpoint()
		if left := leftovers(t, r, "closed"); len(left) > 0 {
			t.Errorf("after the end state holds %q", left)
		}
		if t.Failed() {
			t.Fatalf("seed %d, gap %s, lateness %s", seed, gap, lateness)
		}
	}
}

// leftovers lists what is stored of other states than the named one.
func leftovers(t *testing.T, r *rig, except string) []string {
	t.Helper()
	var list []string
	for key := range r.store.values {
		p, err := state.SplitKey([]byte(key))
		if err != nil {
			t.Fatal(err)
		}
		for _, slot := range r.slots {
			if slot.Slot == p.Slot && slot.Name != except {
				list = append(list, fmt.Sprintf("%s %x", slot.Name, key))
			}
		}
	}
	return list
}

// TestAggregate_runningAgreesWithModel checks aggregates without a window: each batch gives a row for each key that it changed.
func TestAggregate_runningAgreesWithModel(t *testing.T) {
	for seed := range uint64(6) {
		random := rand.New(rand.NewPCG(seed, 3))
		batches := randomRows(random, 40, 6)
		step := &Aggregate{ID: "agg", Key: []string{"key"}, Columns: allColumns()}
		r := newRig(t, step, keyedSchema(t), 8)
		got := r.history(random, batches, func(int) int64 { return 0 })
		all := map[string][]keyedRow{}
		var want []string
		for _, rows := range batches {
			changed := map[string]bool{}
			for _, row := range rows {
				all[row.key] = append(all[row.key], row)
				changed[row.key] = true
			}
			for key := range changed {
				want = append(want, keyText(key)+" "+expected(t, all[key]))
			}
		}
		sameRows(t, got, want)
		r.balanced(r.res.Made)
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}
