package cli

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/ingestd/ingestd/pipeline"
	"github.com/ingestd/ingestd/step"
)

// discardState tells the pipelines whose state of a step is given up with this start. A step is named by its id, or as PIPELINE/ID;
// what has no such step any more, or several pipelines with it, needs the pipeline's name.
func discardState(l *loaded, wanted []string) error {
	for _, text := range wanted {
		d, id, err := discarding(l, text)
		if err != nil {
			return exitWith(exitUsage, fmt.Errorf("--discard-state %s: %w", text, err))
		}
		d.DiscardState = append(d.DiscardState, id)
	}
	return nil
}

func discarding(l *loaded, text string) (*pipeline.Definition, string, error) {
	name, id, named := strings.Cut(text, "/")
	if !named {
		name, id = "", text
	}
	var found []*pipeline.Definition
	for _, d := range l.defs {
		has := slices.ContainsFunc(d.Steps, func(s step.Step) bool { return s.Name() == id })
		if d.Name == name || !named && (has || len(l.defs) == 1) {
			found = append(found, d)
		}
	}
	switch {
	case len(found) == 0 && named:
		return nil, "", fmt.Errorf("there is no pipeline %q", name)
	case len(found) == 0:
		return nil, "", errors.New("no pipeline has such a step; say PIPELINE/ID for a step that is gone")
	case len(found) > 1:
		return nil, "", errors.New("several pipelines have such a step; say PIPELINE/ID")
	case !found[0].HasState():
		return nil, "", fmt.Errorf("the pipeline %q has no keyed step", found[0].Name)
	}
	return found[0], id, nil
}
