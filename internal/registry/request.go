package registry

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

const (
	mediaType = "application/vnd.schemaregistry.v1+json"
	// answerBytesMax bounds what is read of an answer.
	answerBytesMax = 8 << 20
)

// Attempt sends a request until it has an answer, or gives up.
type Attempt func(ctx context.Context, send func(ctx context.Context) error) error

// Once asks each address at most once.
func (c *Client) Once(ctx context.Context, send func(ctx context.Context) error) error {
	return send(ctx)
}

// Patiently asks again, with growing pauses, until the registry has what is asked for, refuses it, or the context ends. What it does
// not have may be on its way there from another registry.
func (c *Client) Patiently(ctx context.Context, send func(ctx context.Context) error) error {
	const pauseMin, pauseMax = 100 * time.Millisecond, 5 * time.Second
	pause := pauseMin
	for {
		err := send(ctx)
		if err == nil || Definite(err) && !NotFound(err) {
			return err
		}
		if deadline, ok := ctx.Deadline(); ok && c.Now().Add(pause).After(deadline) {
			return err
		}
		if c.settings.Clock.Wait(ctx, pause) != nil {
			return err // the last one says more than the context
		}
		pause = min(2*pause, pauseMax)
	}
}

type schemaAnswer struct {
	Schema     string      `json:"schema"`
	SchemaType string      `json:"schemaType"` // absent: AVRO
	References []Reference `json:"references"`
}

func (a *schemaAnswer) schema() Schema {
	if a.SchemaType == "" {
		a.SchemaType = "AVRO"
	}
	return Schema{Type: a.SchemaType, Text: a.Schema, References: a.References}
}

type schemaRequest struct {
	Schema     string      `json:"schema"`
	SchemaType string      `json:"schemaType,omitempty"`
	References []Reference `json:"references,omitempty"`
}

func requestOf(s Schema) schemaRequest {
	r := schemaRequest{Schema: s.Text, SchemaType: s.Type, References: s.References}
	if r.SchemaType == "AVRO" {
		r.SchemaType = "" // registries before other types do not know the key
	}
	return r
}

// ByID returns the schema with an ID.
func (c *Client) ByID(ctx context.Context, id uint32, attempt Attempt) (Schema, error) {
	var a schemaAnswer
	err := attempt(ctx, func(ctx context.Context) error {
		return c.do(ctx, http.MethodGet, "/schemas/ids/"+strconv.FormatUint(uint64(id), 10), nil, &a)
	})
	return a.schema(), err
}

// ByVersion returns a version of a subject, the newest for version 0.
func (c *Client) ByVersion(ctx context.Context, subject string, version int, attempt Attempt) (Schema, error) {
	var a schemaAnswer
	name := "latest"
	if version > 0 {
		name = strconv.Itoa(version)
	}
	err := attempt(ctx, func(ctx context.Context) error {
		return c.do(ctx, http.MethodGet, subjectPath(subject)+"/versions/"+name, nil, &a)
	})
	return a.schema(), err
}

// Register adds a schema to a subject, if it does not have it yet, and returns its ID.
func (c *Client) Register(ctx context.Context, subject string, s Schema, attempt Attempt) (uint32, error) {
	return c.id(ctx, subjectPath(subject)+"/versions", s, attempt)
}

// Lookup returns the ID of a schema that a subject has.
func (c *Client) Lookup(ctx context.Context, subject string, s Schema, attempt Attempt) (uint32, error) {
	return c.id(ctx, subjectPath(subject), s, attempt)
}

func (c *Client) id(ctx context.Context, path string, s Schema, attempt Attempt) (uint32, error) {
	var a struct {
		ID *uint32 `json:"id"`
	}
	err := attempt(ctx, func(ctx context.Context) error { return c.do(ctx, http.MethodPost, path, requestOf(s), &a) })
	switch {
	case err != nil:
		return 0, err
	case a.ID == nil:
		return 0, errors.New("the registry's answer has no ID")
	}
	return *a.ID, nil
}

// Compatible asks whether a schema could become the next version of a subject, and if not, why. A subject that does not exist takes
// every schema.
func (c *Client) Compatible(ctx context.Context, subject string, s Schema, attempt Attempt) (ok bool, reasons []string, err error) {
	var a struct {
		Compatible bool     `json:"is_compatible"`
		Messages   []string `json:"messages"`
	}
	path := "/compatibility" + subjectPath(subject) + "/versions/latest?verbose=true"
	err = attempt(ctx, func(ctx context.Context) error { return c.do(ctx, http.MethodPost, path, requestOf(s), &a) })
	if NotFound(err) {
		return true, nil, nil
	}
	return a.Compatible, a.Messages, err
}

// Subjects returns how many subjects there are.
func (c *Client) Subjects(ctx context.Context, attempt Attempt) (int, error) {
	var names []string
	err := attempt(ctx, func(ctx context.Context) error { return c.do(ctx, http.MethodGet, "/subjects", nil, &names) })
	return len(names), err
}

func subjectPath(subject string) string { return "/subjects/" + url.PathEscape(subject) }

// do sends a request to the addresses, the one that answered last first, until one has answered.
func (c *Client) do(ctx context.Context, method, path string, in, out any) error {
	var body []byte
	if in != nil {
		var err error
		if body, err = json.Marshal(in); err != nil {
			return err
		}
	}
	first := int(c.first.Load())
	var errs []error
	for i := range c.urls {
		at := (first + i) % len(c.urls)
		err := c.send(ctx, method, c.urls[at]+path, body, out)
		if err == nil || Definite(err) {
			c.first.Store(uint32(at))
			return err
		}
		errs = append(errs, err)
		if ctx.Err() != nil {
			break
		}
	}
	return errors.Join(errs...)
}

func (c *Client) send(ctx context.Context, method, address string, body []byte, out any) error {
	req, err := http.NewRequestWithContext(ctx, method, address, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Accept", mediaType+", application/json")
	if body != nil {
		req.Header.Set("Content-Type", mediaType)
	}
	switch {
	case c.settings.Token != "":
		req.Header.Set("Authorization", "Bearer "+c.settings.Token)
	case c.settings.Username != "":
		req.SetBasicAuth(c.settings.Username, c.settings.Password)
	}
	answer, err := c.http.Do(req)
	if err != nil {
		return err
	}
	data, err := io.ReadAll(io.LimitReader(answer.Body, answerBytesMax+1))
	err = errors.Join(err, answer.Body.Close())
	switch {
	case err != nil:
		return err
	case len(data) > answerBytesMax:
		return fmt.Errorf("the registry's answer has more than %d bytes", answerBytesMax)
	case answer.StatusCode != http.StatusOK:
		return errorOf(answer.StatusCode, data)
	}
	if err := json.Unmarshal(data, out); err != nil {
		return fmt.Errorf("the registry's answer: %w", err)
	}
	return nil
}

func errorOf(status int, data []byte) error {
	e := &Error{Status: status}
	var a struct {
		Code    int    `json:"error_code"`
		Message string `json:"message"`
	}
	if json.Unmarshal(data, &a) == nil {
		e.Code, e.Message = a.Code, a.Message
	}
	if e.Message == "" {
		e.Message = http.StatusText(status)
	}
	return e
}
