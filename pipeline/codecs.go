package pipeline

import (
	"context"
	"fmt"

	"github.com/ingestd/ingestd/checkpoint"
	"github.com/ingestd/ingestd/codec"
	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/sink"
)

// cache is what plugins keep with the pipeline's checkpoints.
func (d *Definition) cache() codec.Cache { return checkpoint.NewCache(d.Store, d.ID) }

// namedCodec is a decoder, and what it decodes.
type namedCodec struct {
	where   string
	factory codec.Factory
}

// codecs lists the pipeline's decoders, those of its tables too.
func (d *Definition) codecs() []namedCodec {
	out := []namedCodec{{"decode", d.Codec}}
	for i := range d.Tables {
		t := &d.Tables[i]
		out = append(out, namedCodec{fmt.Sprintf("table of step %q", t.Step), t.Codec})
		if t.KeyCodec != nil {
			out = append(out, namedCodec{fmt.Sprintf("keys of the table of step %q", t.Step), t.KeyCodec})
		}
	}
	return out
}

// shareCache gives the cache to the decoders that keep something there.
func (d *Definition) shareCache() {
	for _, c := range d.codecs() {
		if user, ok := c.factory.(codec.CacheUser); ok {
			user.UseCache(d.cache())
		}
	}
}

// probes collects what servers beside source and targets say. The first trouble is the one that counts.
type probes struct {
	found []Found
	err   error
}

// probe asks the servers that decoders and encoders work with.
func (o *probes) probe(ctx context.Context, def *Definition, p *plan) {
	for _, c := range def.codecs() {
		if asks, ok := c.factory.(codec.Prober); ok {
			notes, blocks, err := asks.Probe(ctx, nil)
			o.take(c.where, sink.FindingsOf(notes, blocks), err)
		}
	}
	for i, r := range def.routes() {
		if asks, ok := r.Sink.(sink.Prober); ok {
			findings, err := asks.Probe(ctx, p.shares[i].out)
			o.take(r.Name, findings, err)
		}
	}
}

func (o *probes) take(where string, findings []sink.Finding, err error) {
	for _, f := range findings {
		o.found = append(o.found, Found{where, sinkLevel(f.Level), f.Text, f.Remedy})
		if f.Level == sink.Blocks && err == nil {
			err = fault.WithRemedy("", fault.Misconfigured, fmt.Errorf("%s: %s", where, f.Text), f.Remedy)
		}
	}
	if o.err == nil {
		o.err = err
	}
}
