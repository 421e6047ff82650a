package kafka

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/source"
)

// split is one partition that a reader reads. The first three fields never change. The others are guarded by the reader's
// lock, except for those that only the request uses in which the split is busy.
type split struct {
	source.Split // as it was opened
	key          splitKey
	id           topicID

	polled int64 // position after what Poll handed out

	next  int64 // what to fetch next: everything before it is published
	epoch int32 // leader epoch of what precedes next, -1 unknown
	done  bool  // nothing more to fetch

	leader      int32 // -1 unknown
	leaderEpoch int32
	replica     int32 // follower to read from, -1 for the leader
	agreed      bool  // the leader's log was found to go on from our position
	comparing   int32 // the leader epoch for which the leader's log is being compared
	busy        bool  // part of a request
	alone       bool  // the next request is for this split only

	queued   int64     // bytes that are published and not polled
	high     int64     // the log's end and its last stable offset, as last seen; -1 unknown
	stable   int64     //
	idle     int       // answers without records though the log goes on
	attempts int       // failures since the last success
	retryAt  time.Time // not before

	problem    string // why it can't go on, "" when it can
	problemAt  time.Time
	missingAt  time.Time // since when the brokers don't know the topic; zero when they do
	foreign    int       // how often another topic ID was seen
	corrupt    int       // answers that failed a check, in a row
	stuckAt    time.Time // since when an open transaction holds it back; zero when none does
	diagnoseAt time.Time // when to ask by whom
	holder     string    // by whom
	stalled    bool      // that is the problem

	// For the request only.
	ratio float64           // size of a batch after and before decompression, a little pessimistic
	names map[string]string // header keys that were seen, so that they need not be allocated again
}

func newSplit(s source.Split) (*split, error) {
	key, err := parseSplit(s.Split)
	if err != nil {
		return nil, err
	}
	id, err := parseTopicID(s.Identity)
	if err != nil {
		return nil, fmt.Errorf("split %s: %w", s.Split, err)
	}
	if s.Offset < 0 {
		return nil, fmt.Errorf("split %s: %d is not a resolved offset", s.Split, s.Offset)
	}
	return &split{
		Split: s, key: key, id: id, polled: int64(s.Offset), next: int64(s.Offset), epoch: int32(s.LeaderEpoch), leader: -1, leaderEpoch: -1, replica: -1,
		high: -1, stable: -1, ratio: 4, names: map[string]string{},
	}, nil
}

// position returns where the split stands after a piece.
func (s *split) position(next int64, epoch int32) source.Position {
	return source.Position{Split: s.Split.Split, Identity: s.Identity, Offset: record.Offset(next), LeaderEpoch: record.LeaderEpoch(epoch)}
}

// bounded reports whether the split has an end.
func (s *split) bounded() bool { return s.Until != source.Unbounded }

// end is as far as the split can be read now, -1 unknown.
func (s *split) end(isolation int8) int64 {
	if isolation == 1 {
		return s.stable
	}
	return s.high
}

// namesMax bounds how many header keys are remembered.
const namesMax = 256

// name returns a header's key as a string of its own.
func (s *split) name(key []byte) string {
	if name, ok := s.names[string(key)]; ok {
		return name
	}
	name := string(key)
	if len(s.names) < namesMax {
		s.names[name] = name
	}
	return name
}

// learn notes how well a batch was compressed.
func (s *split) learn(decoded, compressed int) {
	if compressed == 0 {
		return
	}
	const slow, margin = 0.9, 1.1
	s.ratio = max(1, s.ratio*slow, float64(decoded)/float64(compressed)*margin)
}

// okLocked notes that the split can go on.
func (r *Reader) okLocked(s *split) {
	if s.problem != "" {
		waited := time.Since(s.problemAt).Round(time.Millisecond)
		r.noteLocked(slog.LevelInfo, "split goes on", slog.String("split", s.Split.Split), slog.Duration("waited", waited))
	}
	s.problem, s.attempts, s.retryAt = "", 0, time.Time{}
}

// waitLocked notes why the split can't go on, and when to try again.
func (r *Reader) waitLocked(s *split, now time.Time, problem string) {
	r.problemLocked(s, now, problem)
	s.retryAt = now.Add(backoff(s.attempts))
	s.attempts++
}

// problemLocked notes why the split can't go on, since when.
func (r *Reader) problemLocked(s *split, since time.Time, problem string) {
	if s.problem == "" {
		s.problemAt = since
		r.noteLocked(slog.LevelWarn, "split waits", slog.String("split", s.Split.Split), slog.String("reason", problem))
	}
	s.problem = problem
}

func (r *Reader) noteLocked(level slog.Level, msg string, attrs ...slog.Attr) {
	r.mu.notes = append(r.mu.notes, note{level, msg, attrs})
}

// tell writes the notes.
func (r *Reader) tell(ctx context.Context) {
	r.mu.Lock()
	notes := r.mu.notes
	r.mu.notes = nil
	r.mu.Unlock()
	for _, n := range notes {
		r.log.LogAttrs(ctx, n.level, n.msg, n.attrs...) //nolint:sloglint // each note was made with a constant message
	}
}

const (
	backoffMin = 100 * time.Millisecond
	backoffMax = 5 * time.Second
)

// backoff is how long to wait after some failures: doubling, up to backoffMax.
func backoff(attempts int) time.Duration {
	const doublings = 6
	return min(backoffMax, backoffMin<<min(attempts, doublings))
}
