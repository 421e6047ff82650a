package kafka

import (
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/source"
)

// builder turns one partition's part of an answer into pieces and publishes them. While it waits for the budget it holds no
// counted memory that could not be polled, so that waiting builders can't wait for each other. What it holds uncounted is one
// piece, one decompressed batch when that is larger than a piece, and the answer.
type builder struct {
	r     *Reader
	s     *split
	next  int64 // position after what was taken in
	epoch int32
	said  int64 // position after what was published
	until int64 // source.Unbounded without a bound
	piece *piece

	// What is left in the answer, for the size of pieces: records, and their compressed bytes.
	records int
	bytes   int
}

// take publishes all that is in batches. On an error everything before it has been published. It returns whether the position
// moved.
func (b *builder) take(ctx context.Context, rp *kmsg.FetchResponseTopicPartition) (moved bool, err error) {
	b.survey(rp.RecordBatches)
	start := b.next
	gone := newAborted(nil)
	if b.r.plan.isolation == 1 {
		gone = newAborted(rp.AbortedTransactions)
	}
	for in := rp.RecordBatches; err == nil && len(in) > 0 && !b.finished(); {
		var (
			one   batch
			magic byte
		)
		one, magic, in, err = take(in)
		switch {
		case errors.Is(err, errCut):
			err, in = nil, nil
		case err != nil:
			err = b.corrupt(err)
		case magic == 2:
			err = b.batch(ctx, &one, gone)
		default:
			err = b.message(ctx, &one)
		}
	}
	if errPublish := b.publish(ctx); errPublish != nil {
		return false, errPublish
	}
	return b.next > start, err
}

// survey adds up what is to come.
func (b *builder) survey(in []byte) {
	for {
		one, magic, rest, err := take(in)
		if err != nil {
			return
		}
		if magic == 2 && one.last >= b.next && !one.control() {
			b.records += one.count
			b.bytes += len(one.raw)
		}
		in = rest
	}
}

func (b *builder) finished() bool { return b.until != int64(source.Unbounded) && b.next >= b.until }

// move sets the position, which never goes beyond the bound.
func (b *builder) move(next int64) {
	if b.until != int64(source.Unbounded) {
		next = min(next, b.until)
	}
	b.next = max(b.next, next)
}

func (b *builder) corrupt(err error) error {
	return &corruptError{fmt.Errorf("split %s offset %d: %w", b.s.Split.Split, b.next, err)}
}

// corruptError says that bytes of an answer fail a check. The first time they are fetched again: it may be the network's fault.
type corruptError struct{ error }

// batch takes in one record batch.
func (b *builder) batch(ctx context.Context, one *batch, gone aborted) error {
	if one.last < b.next {
		return nil
	}
	if b.until != int64(source.Unbounded) && one.first >= b.until {
		b.move(b.until)
		return nil
	}
	if err := one.verify(b.r.pool.crc); err != nil {
		return b.corrupt(err)
	}
	switch {
	case one.control():
		gone.end(one)
	case gone.holds(one):
		b.spent(one)
	default:
		if err := b.data(ctx, one); err != nil {
			return err
		}
		b.spent(one)
	}
	b.move(one.last + 1)
	b.epoch = one.epoch
	return nil
}

func (b *builder) spent(one *batch) {
	b.records -= one.count
	b.bytes -= len(one.raw)
}

// data takes in the records of a batch.
func (b *builder) data(ctx context.Context, one *batch) error {
	if one.count == 0 {
		return nil // compaction keeps an empty batch for its offset
	}
	for one.count <= pieceRows {
		if err := b.ensure(ctx, 0, one.count); err != nil {
			return err
		}
		p := b.piece
		out, err := b.r.pool.dec.into(p.buf, one.records(), one.codec())
		switch {
		case err == nil:
			fresh := out[len(p.buf):]
			p.buf = out
			b.s.learn(len(fresh), len(one.records()))
			return b.rows(ctx, one, fresh, keep)
		case !errors.Is(err, errNoRoom):
			return b.corrupt(err)
		case len(p.buf) > 0:
			if err := b.publish(ctx); err != nil {
				return err
			}
		case cap(p.buf) < pieceBytes:
			size := 2 * cap(p.buf)
			b.r.pool.putBytes(p.buf)
			p.buf = b.r.pool.getBytes(size)
		default:
			return b.large(ctx, one)
		}
	}
	return b.large(ctx, one)
}

// large takes in a batch that does not fit a piece: it is decompressed beside them and copied.
func (b *builder) large(ctx context.Context, one *batch) error {
	limit := int(b.r.plan.BatchBytesMax)
	all := one.records()
	if one.codec() != kgo.CodecNone {
		var err error
		if all, err = b.r.pool.dec.grow(one.records(), one.codec(), limit); errors.Is(err, errNoRoom) {
			return b.bomb(one.first, one.last)
		} else if err != nil {
			return b.corrupt(err)
		}
	} else if len(all) > limit {
		return b.bomb(one.first, one.last)
	}
	b.s.learn(len(all), len(one.records()))
	return b.rows(ctx, one, all, copied)
}

func (b *builder) bomb(first, last int64) error {
	err := fmt.Errorf("split %s: the record batch of the offsets %d to %d is larger than %s after decompression",
		b.s.Split.Split, first, last, b.r.plan.BatchBytesMax)
	return fault.WithRemedy("source/kafka.Poll", fault.Misconfigured, err, "raise batch_bytes_max of the source")
}

// memory says whether records are in the piece's own memory already.
type memory int

const (
	keep memory = iota
	copied
)

// rows parses the records of a batch. With keep, data is the end of the piece's buffer.
func (b *builder) rows(ctx context.Context, one *batch, data []byte, m memory) error {
	var raw rawRecord
	last := one.first - 1
	for i := range one.count {
		var err error
		if data, err = raw.parse(data); err != nil {
			return b.corrupt(fmt.Errorf("record %d of %d in the batch at offset %d: %w", i, one.count, one.first, err))
		}
		offset := one.first + raw.offsetDelta
		if offset <= last || offset > one.last {
			return b.corrupt(fmt.Errorf("record %d of the batch at offset %d has the offset %d", i, one.first, offset))
		}
		if last = offset; offset < b.next {
			continue
		}
		if b.until != int64(source.Unbounded) && offset >= b.until {
			b.move(b.until)
			return nil
		}
		row := source.Row{Offset: record.Offset(offset), Timestamp: one.firstTime + raw.timeDelta, Key: raw.key, Value: raw.value}
		if one.attributes&attrAppendTime != 0 {
			row.Timestamp = one.maxTime
		}
		if err := b.add(ctx, row, &raw, m); err != nil {
			return err
		}
		b.epoch = one.epoch
		b.move(offset + 1)
	}
	return nil
}

// copy appends data to the piece's buffer. nil stays nil.
func (b *builder) copy(data []byte) []byte {
	if data == nil {
		return nil
	}
	start := len(b.piece.buf)
	b.piece.buf = append(b.piece.buf, data...)
	return b.piece.buf[start:len(b.piece.buf):len(b.piece.buf)]
}

// add puts a row into a piece, as a refusal when it is too large. With keep there is room.
func (b *builder) add(ctx context.Context, row source.Row, raw *rawRecord, m memory) error {
	limit := int(b.r.plan.RecordBytesMax)
	large := len(row.Key)+len(row.Value) > limit
	if m == copied {
		need := len(raw.headers)
		if !large {
			need += len(row.Key) + len(row.Value)
		}
		if err := b.ensure(ctx, need, 1); err != nil {
			return err
		}
		raw.headers = b.copy(raw.headers)
	}
	headers, err := b.header(raw)
	if err != nil {
		return err
	}
	row.Headers = headers
	switch {
	case large:
		b.refuse(row)
		return nil
	case m == copied:
		row.Key, row.Value = b.copy(row.Key), b.copy(row.Value)
	}
	b.piece.rows = append(b.piece.rows, row)
	return nil
}

// refuse makes a dead letter of the head of a record. It is copied, so that the rest need not be held.
func (b *builder) refuse(row source.Row) {
	limit := int(b.r.plan.RecordBytesMax)
	key := append([]byte(nil), row.Key[:min(len(row.Key), limit)]...)
	value := append([]byte(nil), row.Value[:min(len(row.Value), limit-len(key))]...)
	b.piece.extra += int64(cap(key) + cap(value))
	b.piece.refused = append(b.piece.refused, record.DeadLetter{
		Split: b.s.Split.Split, Topic: b.s.key.topic, Partition: b.s.key.partition, Offset: row.Offset, Timestamp: row.Timestamp,
		Key: key, Value: value, Headers: row.Headers, Stage: "source", Byte: -1,
		Reason: fmt.Sprintf("the record has %d bytes, more than record_bytes_max = %s, and is cut",
			len(row.Key)+len(row.Value), b.r.plan.RecordBytesMax),
	})
}

// header parses a record's headers. Their values alias raw.
func (b *builder) header(raw *rawRecord) ([]record.Header, error) {
	if raw.headerCount == 0 {
		return nil, nil
	}
	p := b.piece
	start := len(p.headers)
	in := raw.headers
	for range raw.headerCount {
		var (
			key, value []byte
			ok         bool
		)
		if key, in, ok = takeBytes(in); ok {
			value, in, ok = takeBytes(in)
		}
		if !ok {
			return nil, b.corrupt(errRecord)
		}
		p.headers = append(p.headers, record.Header{Key: b.s.name(key), Value: value})
	}
	return p.headers[start:len(p.headers):len(p.headers)], nil
}

// ensure makes sure that the piece has room for some bytes, unless 0, and rows.
func (b *builder) ensure(ctx context.Context, bytes, rows int) error {
	if p := b.piece; p != nil {
		if cap(p.buf)-len(p.buf) >= bytes && cap(p.rows)-len(p.rows) >= rows {
			return nil
		}
		if err := b.publish(ctx); err != nil {
			return err
		}
	}
	guess := min(pieceBytes, int(float64(b.bytes)*b.s.ratio)+1)
	b.piece = &piece{split: b.s}
	b.piece.buf = b.r.pool.getBytes(max(bytes, guess))
	b.piece.rows = b.r.pool.getRows(max(rows, b.records))
	return nil
}

// publish hands on what was taken in.
func (b *builder) publish(ctx context.Context) error {
	p := b.piece
	b.piece = nil
	if p == nil && b.next == b.said {
		return nil
	}
	if p == nil {
		p = &piece{split: b.s}
	}
	p.next, p.epoch, p.finished = b.next, b.epoch, b.finished()
	if p.empty() {
		p.free(b.r.pool)
		if b.next == b.said {
			return nil
		}
	}
	if err := b.r.publish(ctx, p); err != nil {
		return err
	}
	b.said = b.next
	return nil
}

// message takes in one message of an old format (magic 0 or 1), which may hold compressed others. The client library parses
// them: such logs were last written before Kafka 0.11.
func (b *builder) message(ctx context.Context, one *batch) error {
	opts := kgo.ProcessFetchPartitionOpts{Offset: b.next, Topic: b.s.key.topic, Partition: b.s.key.partition}
	rp := kmsg.FetchResponseTopicPartition{Partition: b.s.key.partition, RecordBatches: one.raw}
	got, next := kgo.ProcessFetchPartition(opts, &rp, bounded{&b.r.pool.dec, int(b.r.plan.BatchBytesMax)}, nil)
	if tooLarge := (*kgo.ErrDecompressTooLarge)(nil); errors.As(got.Err, &tooLarge) {
		return b.bomb(b.next, one.last)
	}
	if got.Err != nil {
		return b.corrupt(got.Err)
	}
	for _, rec := range got.Records {
		if b.until != int64(source.Unbounded) && rec.Offset >= b.until {
			b.move(b.until)
			return nil
		}
		raw := rawRecord{key: rec.Key, value: rec.Value}
		row := source.Row{Offset: record.Offset(rec.Offset), Timestamp: rec.Timestamp.UnixMilli(), Key: rec.Key, Value: rec.Value}
		if rec.Attrs.TimestampType() < 0 {
			row.Timestamp = -1
		}
		if err := b.add(ctx, row, &raw, copied); err != nil {
			return err
		}
		b.move(rec.Offset + 1)
	}
	b.move(next)
	return nil
}
