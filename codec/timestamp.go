package codec

import (
	"errors"
	"fmt"
	"math"
	"math/bits"
	"time"

	"github.com/ingestd/ingestd/record"
)

var (
	errNotDate      = errors.New("is not a date like 2006-01-02")
	errNotTimestamp = errors.New("is not a timestamp like 2006-01-02T15:04:05Z or 2006-01-02 15:04:05")
	errNoSuchDate   = errors.New("is a date or time that does not exist")
	errTicks        = errors.New("has more digits behind the second than the type holds")
	errYears        = errors.New("is not in the years 0000 to 9999")
)

const (
	secondsPerDay = 24 * 60 * 60
	// The seconds since 1970 of 0000-01-01 and 9999-12-31T23:59:59: what four digits of a year can say.
	firstSecond = -62167219200
	lastSecond  = 253402300799
)

// pow10 is 10 to the n for n up to 18.
func pow10(n int) int64 {
	return [...]int64{1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18}[n]
}

// twoDigits reads two digits, or gives a negative number.
func twoDigits(text []byte, at int) int {
	tens, ones := text[at]-'0', text[at+1]-'0'
	if tens > 9 || ones > 9 {
		return math.MinInt32
	}
	return int(tens)*10 + int(ones)
}

// parseDate reads 2006-01-02 at the front of text as days since 1970.
func parseDate(text []byte) (days int64, err error) {
	const size = 10
	if len(text) < size || text[4] != '-' || text[7] != '-' {
		return 0, errNotDate
	}
	century, years, month, day := twoDigits(text, 0), twoDigits(text, 2), twoDigits(text, 5), twoDigits(text, 8)
	if century < 0 || years < 0 || month < 0 || day < 0 {
		return 0, errNotDate
	}
	year := century*100 + years
	if month < 1 || month > 12 || day < 1 || day > daysIn(year, month) {
		return 0, errNoSuchDate
	}
	return daysFromCivil(year, month, day), nil
}

func daysIn(year, month int) int {
	switch {
	case month == 2 && year%4 == 0 && (year%100 != 0 || year%400 == 0):
		return 29
	case month == 2:
		return 28
	case month == 4 || month == 6 || month == 9 || month == 11:
		return 30
	}
	return 31
}

// daysFromCivil counts the days since 1970-01-01 in the proleptic Gregorian calendar. The year begins with March here, so
// that the day of a leap year is its last one.
func daysFromCivil(year, month, day int) int64 {
	const (
		daysPerEra = 146097 // 400 years
		epochShift = 719468 // days from 0000-03-01 to 1970-01-01
	)
	if month <= 2 {
		year--
		month += 12
	}
	era := year / 400
	if year < 0 {
		era = -1
	}
	yearOfEra := year - era*400
	dayOfYear := (153*(month-3)+2)/5 + day - 1
	return int64(era)*daysPerEra + int64(yearOfEra)*365 + int64(yearOfEra/4-yearOfEra/100) + int64(dayOfYear) - epochShift
}

// clock is what a timestamp's text says.
type clock struct {
	seconds int64 // since 1970, as if the text were UTC
	nanos   int64
	digits  int // significant digits of the fraction
	zoned   bool
	offset  int64 // seconds east of UTC, if zoned
}

// parseClock reads a timestamp.
func parseClock(text []byte) (clock, error) {
	var c clock
	const size = 19 // up to the seconds
	if len(text) < size {
		return c, errNotTimestamp
	}
	if separator := text[10]; separator != 'T' && separator != ' ' && separator != 't' {
		return c, errNotTimestamp
	}
	days, err := parseDate(text)
	if errors.Is(err, errNotDate) {
		return c, errNotTimestamp
	}
	if err != nil {
		return c, err
	}
	hour, minute, second := twoDigits(text, 11), twoDigits(text, 14), twoDigits(text, 17)
	if hour < 0 || minute < 0 || second < 0 || text[13] != ':' || text[16] != ':' {
		return c, errNotTimestamp
	}
	if hour > 23 || minute > 59 || second > 59 {
		return c, errNoSuchDate
	}
	c.seconds = days*secondsPerDay + int64(hour)*3600 + int64(minute)*60 + int64(second)
	rest, ok := c.fraction(text[size:])
	if !ok || !c.zone(rest) {
		return c, errNotTimestamp
	}
	return c, nil
}

// fraction reads .digits, if there are any, and returns the rest.
func (c *clock) fraction(text []byte) (rest []byte, ok bool) {
	if len(text) == 0 || text[0] != '.' {
		return text, true
	}
	text = text[1:]
	n := countDigits(text)
	if n == 0 {
		return nil, false
	}
	digits := text[:n]
	for len(digits) > 0 && digits[len(digits)-1] == '0' {
		digits = digits[:len(digits)-1]
	}
	c.digits = len(digits)
	if c.digits > record.TicksMax {
		return text[n:], true // no type takes it
	}
	for _, d := range digits {
		c.nanos = c.nanos*10 + int64(d-'0')
	}
	c.nanos *= pow10(record.TicksMax - c.digits)
	return text[n:], true
}

// zone reads Z or an offset like +02:00, or nothing, up to the end.
func (c *clock) zone(text []byte) bool {
	const size = 6
	switch {
	case len(text) == 0:
		return true
	case len(text) == 1 && (text[0] == 'Z' || text[0] == 'z'):
		c.zoned = true
		return true
	case len(text) != size || text[3] != ':' || text[0] != '+' && text[0] != '-':
		return false
	}
	hours, minutes := twoDigits(text, 1), twoDigits(text, 4)
	if hours < 0 || hours > 23 || minutes < 0 || minutes > 59 {
		return false
	}
	c.zoned, c.offset = true, int64(hours)*3600+int64(minutes)*60
	if text[0] == '-' {
		c.offset = -c.offset
	}
	return true
}

// appendTimestamp appends a timestamp from its text; zone is the zone of a text without one, nil for UTC.
func appendTimestamp(col *record.Column, text []byte, zone *time.Location) error {
	c, err := parseClock(text)
	if err != nil {
		return err
	}
	if c.digits > col.Type.Precision {
		return errTicks
	}
	seconds := c.seconds - c.offset
	if !c.zoned && zone != nil {
		if seconds, err = localSeconds(c.seconds, zone); err != nil {
			return err
		}
	}
	ticks, ok := ticksOf(seconds, c.nanos, col.Type.Precision)
	if !ok {
		return errRange
	}
	return appendTicks(col, ticks)
}

// ticksOf turns seconds and nanoseconds since 1970 into ticks.
func ticksOf(seconds, nanos int64, precision int) (ticks int64, ok bool) {
	scale := pow10(precision)
	fraction := nanos / pow10(record.TicksMax-precision)
	if seconds < 0 { // then both parts are negative, and no sum in between is below the result
		seconds, fraction = seconds+1, fraction-scale
	}
	high, low := bits.Mul64(uint64(max(seconds, -seconds)), uint64(scale))
	if high != 0 || low > math.MaxInt64 {
		return 0, false
	}
	ticks = seconds * scale
	if fraction > 0 && ticks > math.MaxInt64-fraction || fraction < 0 && ticks < math.MinInt64-fraction {
		return 0, false
	}
	return ticks + fraction, true
}

// appendTicks appends a timestamp that is known to be exact, if it is in the years that text can say and in the type's bounds.
func appendTicks(col *record.Column, ticks int64) error {
	scale := pow10(col.Type.Precision)
	seconds := ticks / scale
	if ticks%scale < 0 {
		seconds--
	}
	if seconds < firstSecond || seconds > lastSecond {
		return errYears
	}
	if err := checkBounds(&col.Type, uint64(ticks)); err != nil {
		return err
	}
	col.AppendInt(ticks)
	return nil
}

// localSeconds finds the instant at which the clocks of a zone show what local would be in UTC. There must be exactly one.
func localSeconds(local int64, zone *time.Location) (int64, error) {
	// The offsets on both sides of any change near by are those a day before and a day after.
	var found [2]int64
	n := 0
	for _, day := range [...]int64{-secondsPerDay, secondsPerDay} {
		_, offset := time.Unix(local+day, 0).In(zone).Zone()
		candidate := local - int64(offset)
		_, actual := time.Unix(candidate, 0).In(zone).Zone()
		if actual == offset && (n == 0 || found[0] != candidate) {
			found[n] = candidate
			n++
		}
	}
	switch n {
	case 0:
		return 0, fmt.Errorf("is a time that the clocks of %s skip", zone)
	case 1:
		return found[0], nil
	}
	return 0, fmt.Errorf("is a time that the clocks of %s show twice, give its offset", zone)
}

// AppendTicks appends an instant to a column of Timestamp, given in ticks of 10^-digits seconds since 1970 in UTC. It must be
// exact: digits behind the second that the type does not hold must be zero.
func AppendTicks(col *record.Column, ticks int64, digits int) error {
	scaled, err := rescaleTicks(ticks, digits, col.Type.Precision)
	if err != nil {
		return err
	}
	return appendTicks(col, scaled)
}

func rescaleTicks(ticks int64, from, to int) (int64, error) {
	if from == to {
		return ticks, nil
	}
	if from > to {
		scale := pow10(from - to)
		if ticks%scale != 0 {
			return 0, errTicks
		}
		return ticks / scale, nil
	}
	scale := pow10(to - from)
	if ticks > math.MaxInt64/scale || ticks < math.MinInt64/scale {
		return 0, errRange
	}
	return ticks * scale, nil
}

// AppendLocal appends what clocks in the type's zone show to a column of Timestamp, the type that x was made for: ticks of
// 10^-digits seconds since they showed 1970-01-01T00:00:00. A time that they skip or show twice is refused.
func (x *Text) AppendLocal(col *record.Column, ticks int64, digits int) error {
	if x.zone == nil {
		return AppendTicks(col, ticks, digits)
	}
	scale := pow10(digits)
	seconds, fraction := ticks/scale, ticks%scale
	if fraction < 0 {
		seconds, fraction = seconds-1, fraction+scale
	}
	if seconds < firstSecond || seconds > lastSecond {
		return errYears
	}
	seconds, err := localSeconds(seconds, x.zone)
	if err != nil {
		return err
	}
	if digits > col.Type.Precision && fraction%pow10(digits-col.Type.Precision) != 0 {
		return errTicks
	}
	instant, ok := ticksOf(seconds, fraction*pow10(record.TicksMax-digits), col.Type.Precision)
	if !ok {
		return errRange
	}
	return appendTicks(col, instant)
}

// AppendDays appends a number of days since 1970-01-01 to a column of Date.
func AppendDays(col *record.Column, days int64) error {
	if days < firstSecond/secondsPerDay || days > lastSecond/secondsPerDay {
		return errYears
	}
	if err := checkBounds(&col.Type, uint64(days)); err != nil {
		return err
	}
	col.AppendInt(days)
	return nil
}

// AppendTicksText appends an instant as text in UTC, as [AppendJSON] writes it without quotes.
func AppendTicksText(dst []byte, ticks int64, digits int) []byte {
	return appendTimestampText(dst, ticks, digits)
}

// AppendDaysText appends a date as text.
func AppendDaysText(dst []byte, days int64) []byte {
	return appendCivil(dst, days*secondsPerDay, len("2006-01-02"))
}
