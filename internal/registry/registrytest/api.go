package registrytest

import (
	"slices"
	"testing"

	"github.com/ingestd/ingestd/internal/registry"
)

// Run checks the answers of a registry that nobody else uses against the API's documentation.
func Run(t *testing.T, c *registry.Client) {
	t.Helper()
	ctx := t.Context()
	const (
		first  = `{"type":"record","name":"A","fields":[{"name":"x","type":"long"}]}`
		second = `{"type":"record","name":"A","fields":[{"name":"x","type":"long"},{"name":"y","type":"int","default":0}]}`
		third  = `{"type":"record","name":"A","fields":[{"name":"x","type":"string"}]}`
	)
	schema := func(text string) registry.Schema { return registry.Schema{Type: "AVRO", Text: text} }
	id, err := c.Register(ctx, "api-value", schema(first), c.Once)
	if err != nil || id == 0 {
		t.Fatalf("register: got ID %d, %v", id, err)
	}
	if again, err := c.Register(ctx, "api-value", schema(first), c.Once); again != id || err != nil {
		t.Errorf("register again: got ID %d, %v, want %d", again, err, id)
	}
	if found, err := c.Lookup(ctx, "api-value", schema(first), c.Once); found != id || err != nil {
		t.Errorf("look up: got ID %d, %v, want %d", found, err, id)
	}
	got, err := c.ByID(ctx, id, c.Once)
	if err != nil || got.Type != "AVRO" || got.Text != first {
		t.Errorf("by ID: got %+v, %v", got, err)
	}
	if next, err := c.Register(ctx, "api-value", schema(second), c.Once); next == id || err != nil {
		t.Errorf("register the next version: got ID %d, %v", next, err)
	}
	for version, text := range map[int]string{1: first, 2: second, 0: second} {
		if got, err = c.ByVersion(ctx, "api-value", version, c.Once); got.Text != text || err != nil {
			t.Errorf("version %d: got %+v, %v", version, got, err)
		}
	}
	if n, err := c.Subjects(ctx, c.Once); n != 1 || err != nil {
		t.Errorf("subjects: got %d, %v, want 1", n, err)
	}
	if ok, reasons, err := c.Compatible(ctx, "api-value", schema(first), c.Once); !ok || err != nil {
		t.Errorf("compatible: got %t %v, %v", ok, reasons, err)
	}
	if ok, _, err := c.Compatible(ctx, "api-none", schema(first), c.Once); !ok || err != nil {
		t.Errorf("compatible with a subject that is not there: got %t, %v", ok, err)
	}
	if ok, reasons, err := c.Compatible(ctx, "api-value", schema(third), c.Once); ok || err != nil {
		t.Errorf("not compatible: got %t %v, %v", ok, reasons, err)
	}
	missing(t, c, schema(third))
	references(t, c)
}

// missing checks the answers about what is not there.
func missing(t *testing.T, c *registry.Client, s registry.Schema) {
	t.Helper()
	ctx := t.Context()
	_, byID := c.ByID(ctx, 1_000_000, c.Once)
	_, bySubject := c.ByVersion(ctx, "api-none", 1, c.Once)
	_, byVersion := c.ByVersion(ctx, "api-value", 9, c.Once)
	_, lookup := c.Lookup(ctx, "api-value", s, c.Once)
	for what, err := range map[string]error{"ID": byID, "subject": bySubject, "version": byVersion, "schema of a subject": lookup} {
		if !registry.NotFound(err) || !registry.Definite(err) {
			t.Errorf("a missing %s: got error %v, want 404", what, err)
		}
	}
	if _, err := c.Register(ctx, "api-other", registry.Schema{Type: "AVRO", Text: "{"}, c.Once); !registry.Definite(err) || registry.NotFound(err) {
		t.Errorf("no schema: got error %v, want a refusal", err)
	}
}

// references checks that a schema comes with the references that it was registered with, and its type.
func references(t *testing.T, c *registry.Client) {
	t.Helper()
	ctx := t.Context()
	if _, err := c.Register(ctx, "api-part", registry.Schema{Type: "AVRO", Text: `{"type":"record","name":"Part","fields":[]}`}, c.Once); err != nil {
		t.Fatalf("register a part: %v", err)
	}
	refs := []registry.Reference{{Name: "Part", Subject: "api-part", Version: 1}}
	whole := registry.Schema{Type: "AVRO", Text: `{"type":"record","name":"Whole","fields":[{"name":"p","type":"Part"}]}`, References: refs}
	id, err := c.Register(ctx, "api-whole", whole, c.Once)
	if err != nil {
		t.Fatalf("register a schema with a reference: %v", err)
	}
	got, err := c.ByID(ctx, id, c.Once)
	if err != nil || !slices.Equal(got.References, refs) {
		t.Errorf("got references %+v, %v, want %+v", got.References, err, refs)
	}
	id, err = c.Register(ctx, "api-json", registry.Schema{Type: "JSON", Text: `{"$schema":"http://json-schema.org/draft-07/schema#","type":"object"}`}, c.Once)
	if err != nil {
		t.Fatalf("register a JSON schema: %v", err)
	}
	if got, err = c.ByID(ctx, id, c.Once); got.Type != "JSON" || err != nil {
		t.Errorf("got type %q, %v, want JSON", got.Type, err)
	}
}
