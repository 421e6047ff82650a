package main

import (
	"context"
	"fmt"
	"strconv"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// kafkaFloor measures what a plain idempotent producer takes for values that are there already, without reading, decoding or encoding
// any: the floor under the rows of the Kafka sink.
func (b *bench) kafkaFloor(ctx context.Context) (result, error) {
	values := make([][]byte, min(b.small, 1_000_000))
	res := result{records: len(values)}
	for i := range values {
		values[i] = smallRecord(i)
		res.bytes += int64(len(values[i]))
	}
	topic := "floor-" + strconv.FormatInt(time.Now().UnixNano(), 36)
	client, err := kgo.NewClient(kgo.SeedBrokers(b.servers.broker), kgo.DefaultProduceTopic(topic), kgo.ProducerBatchCompression(kgo.Lz4Compression()),
		kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.MaxBufferedRecords(100_000), kgo.ProducerLinger(5*time.Millisecond), kgo.DisableClientMetrics())
	if err != nil {
		return res, err
	}
	defer client.Close()
	if _, err := kadm.NewClient(client).CreateTopic(ctx, partitions, 1, nil, topic); err != nil {
		return res, err
	}
	before, err := processorTime()
	if err != nil {
		return res, err
	}
	began := time.Now()
	failed := make(chan error, 1)
	for i, value := range values {
		client.Produce(ctx, &kgo.Record{Partition: int32(i % partitions), Value: value}, func(_ *kgo.Record, err error) {
			if err != nil {
				select {
				case failed <- err:
				default:
				}
			}
		})
	}
	if err := client.Flush(ctx); err != nil {
		return res, err
	}
	res.wall = time.Since(began)
	after, err := processorTime()
	if err != nil {
		return res, err
	}
	res.cpu = after - before
	select {
	case err := <-failed:
		return res, err
	default:
		return res, nil
	}
}

// postgresFloor measures what the server's own COPY takes for the rows of the newest run.
func (b *bench) postgresFloor(ctx context.Context) (result, error) {
	table := b.servers.postgresTable
	count, err := b.servers.psql(ctx, fmt.Sprintf("COPY %s TO '/tmp/rows.bin' (FORMAT binary); SELECT count(*) FROM %s", table, table))
	if err != nil {
		return result{}, err
	}
	var res result
	if res.records, err = strconv.Atoi(count); err != nil {
		return res, fmt.Errorf("count the rows of %s: %w", table, err)
	}
	if _, err := b.servers.psql(ctx, fmt.Sprintf("CREATE TABLE IF NOT EXISTS floor (LIKE %s); TRUNCATE floor; CHECKPOINT", table)); err != nil {
		return res, err
	}
	began := time.Now()
	_, err = b.servers.psql(ctx, "COPY floor FROM '/tmp/rows.bin' (FORMAT binary)")
	res.wall = time.Since(began)
	return res, err
}

// processorTime is what this process has used so far.
func processorTime() (time.Duration, error) {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0, fmt.Errorf("getrusage: %w", err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()), nil
}
