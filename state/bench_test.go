package state

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

// table of fixed values as the applied state: what the layers cost beside the database.
type fixed struct {
	values map[string][]byte
}

func (f *fixed) Get(dst, key []byte) ([]byte, bool, error) {
	v, ok := f.values[string(key)]
	return append(dst, v...), ok, nil
}

func (f *fixed) Scan(_, _ []byte, _ func(key, value []byte) bool) error { return nil }

func (f *fixed) apply(d Delta) {
	for i := range d.Ops {
		f.values[string(d.Ops[i].Key)] = append([]byte(nil), d.Ops[i].Value...)
	}
}

const (
	checkpointOps = 200_000
	benchKeys     = 1_000_000
)

// BenchmarkUpdate reads and writes a counter of 16 bytes, with a checkpoint every 200,000 updates whose serialization counts.
func BenchmarkUpdate(b *testing.B) {
	rnd := rand.New(rand.NewPCG(1, 2))
	skew := rand.NewZipf(rnd, 1.1, 1, benchKeys-1)
	for _, cache := range []int64{0, 64 << 20} {
		b.Run(fmt.Sprintf("uniform/cache=%dMiB", cache>>20), func(b *testing.B) {
			benchmarkUpdate(b, func() int { return rnd.IntN(benchKeys) }, cache)
		})
		b.Run(fmt.Sprintf("zipf/cache=%dMiB", cache>>20), func(b *testing.B) {
			benchmarkUpdate(b, func() int { return int(skew.Uint64()) }, cache)
		})
	}
}

func benchmarkUpdate(b *testing.B, next func() int, cache int64) {
	b.Helper()
	b.ReportAllocs()
	d := Describe("s", "n", KindValue, Bytes{})
	disk := &fixed{values: make(map[string][]byte)}
	t := NewTask(TaskOptions{Reader: disk, Registry: mustRegistry(b, nil, d), Groups: 256, CacheBytes: cache})
	v := must[Value[[]byte]](b)(NewValue(t, d, Bytes{}, TTL{}))
	value := make([]byte, 16)
	names := make([][]byte, benchKeys)
	for i := range names {
		names[i] = fmt.Appendf(nil, "user-%08d", i)
	}
	n := 0
	var delta int
	for b.Loop() {
		key := names[next()]
		t.For(key, GroupOf(key, 256))
		held, _, err := v.Get()
		if err != nil {
			b.Fatal(err)
		}
		copy(value, held)
		value[0]++
		v.Set(value)
		if n++; n%checkpointOps == 0 {
			f := t.Freeze()
			d := f.Delta()
			encoded, err := EncodeDelta(nil, d)
			check(b, err)
			delta += len(encoded)
			b.StopTimer()
			disk.apply(d)
			b.StartTimer()
			t.Applied(f)
		}
	}
	b.ReportMetric(float64(delta)/float64(n), "delta-B/op")
}

// BenchmarkWindow is the same in a window: kept in order.
func BenchmarkWindow(b *testing.B) {
	b.ReportAllocs()
	const keys = 100_000
	d := Describe("s", "n", KindValue, Int64{})
	disk := &fixed{values: make(map[string][]byte)}
	t := NewTask(TaskOptions{Reader: disk, Registry: mustRegistry(b, nil, d), Groups: 256, CacheBytes: 64 << 20})
	v := must[Value[int64]](b)(NewValue(t, d, Int64{}, TTL{}))
	rnd := rand.New(rand.NewPCG(1, 2))
	names := make([][]byte, keys)
	for i := range names {
		names[i] = fmt.Appendf(nil, "user-%08d", i)
	}
	n := 0
	for b.Loop() {
		key := names[rnd.IntN(keys)]
		t.For(key, GroupOf(key, 256))
		w := v.In(int64(n / 1000))
		held, _, err := w.Get()
		if err != nil {
			b.Fatal(err)
		}
		w.Set(held + 1)
		if n++; n%checkpointOps == 0 {
			f := t.Freeze()
			_, err := EncodeDelta(nil, f.Delta())
			check(b, err)
			t.Applied(f)
		}
	}
}

// BenchmarkSeen looks up new keys.
func BenchmarkSeen(b *testing.B) {
	b.ReportAllocs()
	d := DescribeSeen("s", "n")
	disk := &fixed{values: make(map[string][]byte)}
	t := NewTask(TaskOptions{Reader: disk, Registry: mustRegistry(b, nil, d), Groups: 256, CacheBytes: 16 << 20})
	s := must[*Seen](b)(NewSeen(t, d, TTL{For: 1e9}))
	n := 0
	var key []byte
	for b.Loop() {
		key = fmt.Appendf(key[:0], "user-%012d", n)
		t.For(key, GroupOf(key, 256))
		t.SetTime(int64(n)/500, 0)
		if _, err := s.Seen(int64(n) / 500); err != nil {
			b.Fatal(err)
		}
		if n++; n%checkpointOps == 0 {
			f := t.Freeze()
			_, err := EncodeDelta(nil, f.Delta())
			check(b, err)
			t.Applied(f)
		}
	}
}

// BenchmarkFreeze is the pause at a barrier with 200,000 changed keys, Applied included.
func BenchmarkFreeze(b *testing.B) {
	d := Describe("s", "n", KindValue, Int64{})
	t := NewTask(TaskOptions{Reader: &fixed{}, Registry: mustRegistry(b, nil, d), Groups: 256, CacheBytes: 64 << 20})
	v := must[Value[int64]](b)(NewValue(t, d, Int64{}, TTL{}))
	var pause time.Duration
	for b.Loop() {
		for i := range checkpointOps {
			key := fmt.Appendf(nil, "user-%08d", i)
			t.For(key, GroupOf(key, 256))
			v.Set(int64(i))
		}
		from := time.Now()
		t.Applied(t.Freeze())
		pause = max(pause, time.Since(from))
	}
	b.ReportMetric(float64(pause.Microseconds()), "max-pause-us")
}

// BenchmarkDelta encodes and decodes what a checkpoint of few and of many keys changes.
func BenchmarkDelta(b *testing.B) {
	for _, ops := range []int{50, 100_000} {
		d := someDelta(ops)
		encoded := must[[]byte](b)(EncodeDelta(nil, d))
		b.Run(fmt.Sprintf("encode/%d", ops), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				must[[]byte](b)(EncodeDelta(nil, d))
			}
		})
		b.Run(fmt.Sprintf("decode/%d", ops), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				must[Delta](b)(DecodeDelta(encoded))
			}
		})
	}
}
