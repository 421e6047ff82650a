package step

import (
	"math/big"
	"math/rand/v2"
	"testing"

	"github.com/ingestd/ingestd/codec"
	"github.com/ingestd/ingestd/record"
)

// TestWide_agreesWithMathBig compares with package big at the edges of every width.
func TestWide_agreesWithMathBig(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 1))
	one := big.NewInt(1)
	least := new(big.Int).Neg(new(big.Int).Lsh(one, 255))
	above := new(big.Int).Lsh(one, 255)
	number := func() *big.Int {
		v := new(big.Int).Lsh(one, uint(random.IntN(256)))
		v.Add(v, big.NewInt(random.Int64N(5)-2))
		if random.IntN(2) == 0 {
			v.Neg(v)
		}
		if v.Cmp(least) < 0 || v.Cmp(above) >= 0 {
			v.SetInt64(random.Int64())
		}
		return v
	}
	for range 20_000 {
		a, b := number(), number()
		wa, wb := wideFrom(a), wideFrom(b)
		if wa.big().Cmp(a) != 0 || wa.compare(&wb) != a.Cmp(b) || wa.negative() != (a.Sign() < 0) {
			t.Fatalf("%s and %s: got %s, compared %d", a, b, wa.big(), wa.compare(&wb))
		}
		sum, ok := wa.plus(&wb)
		want := new(big.Int).Add(a, b)
		if fits := want.Cmp(least) >= 0 && want.Cmp(above) < 0; ok != fits || fits && sum.big().Cmp(want) != 0 {
			t.Fatalf("%s + %s: got %s, %v", a, b, sum.big(), ok)
		}
		stored := wa.save([]byte("x"))
		var again wide
		rest, err := again.load(append(stored[1:], 7))
		if err != nil || len(rest) != 1 || again != wa {
			t.Fatalf("%s: stored %x, read back %s, %v", a, stored[1:], again.big(), err)
		}
		if bytes := (a.BitLen() + 8) / 8; len(stored) > 2+bytes {
			t.Fatalf("%s takes %d bytes", a, len(stored)-2)
		}
	}
}

func TestWide_boundsAreThoseOfTheType(t *testing.T) {
	for typ, want := range map[string][2]string{
		"int64": {"-9223372036854775808", "9223372036854775807"}, "uint64": {"0", "18446744073709551615"},
		"decimal(3, 1)": {"-99.9", "99.9"}, "decimal(38, 0)": {"-99999999999999999999999999999999999999", "99999999999999999999999999999999999999"},
		"int128": {"-170141183460469231731687303715884105728", "170141183460469231731687303715884105727"},
		"int256": {
			"-57896044618658097711785492504343953926634992332820282019728792003956564819968",
			"57896044618658097711785492504343953926634992332820282019728792003956564819967",
		},
	} {
		parsed, err := record.ParseType(typ)
		if err != nil {
			t.Fatal(err)
		}
		b := boundsOf(&parsed)
		c := record.NewColumn(parsed)
		b.low.appendTo(&c)
		b.high.appendTo(&c)
		for i := range want {
			if got := string(codec.AppendValue(nil, &c, i)); got != want[i] {
				t.Errorf("%s: got %s, want %s", typ, got, want[i])
			}
			w := wideAt(&c, i)
			if step := wideOf(int64(2*i - 1)); !b.hold(&w) {
				t.Errorf("%s does not hold %s", typ, want[i])
			} else if next, ok := w.plus(&step); ok && b.hold(&next) {
				t.Errorf("%s holds %s", typ, next.big())
			}
		}
	}
}
