package config

import "strings"

// referenceHead stands at the top of the reference.
const referenceHead = `# Configuration

<!-- Generated from the specs of the daemon and its plugins; do not edit. -->

The configuration is one TOML file. It is strict: an unknown key, a wrong type or a value outside its limits is an error with
its line and column, and one run reports all errors of the file.

- A **duration** is a string with units: ` + "`\"250ms\"`, `\"1h30m\"`, `\"7d\"`" + `. A bare number is refused.
- A **size** is a string with a unit, binary or decimal: ` + "`\"64MiB\"`, `\"1GB\"`, `\"512B\"`" + `. A bare number is refused.
- In every string ` + "`${env:NAME}` stands for an environment variable and `${file:PATH}`" + ` for the content of a file, without the line
  end at its end; a relative path starts at the folder of the config file. ` + "`$${` stands for `${`" + ` itself. What is missing is an
  error, there are no defaults in references.
- A **secret** is a string that no log, message or digest shows. Write it as a reference.
- "–" as the default means that the key may be absent.

`

// Reference returns the text of docs/config.md: a table of every key of the daemon and of reg's plugins, with type, default,
// limits and meaning. The same argument gives the same bytes.
func Reference(reg Registry) []byte {
	var r reference
	r.WriteString(referenceHead)
	daemon, pipeline, checkpoint, restart := daemonSpec(), pipelineSpec(), checkpointSpec(), restartSpec()
	r.section("`[daemon]`", &daemon)
	r.section("`[pipeline.NAME]`", &pipeline)
	titles := map[string]string{
		RoleSource: "Sources: `[pipeline.NAME.source]`", RoleDecode: "Decoders: `[pipeline.NAME.decode]`",
		RoleStep: "Steps: `[[pipeline.NAME.step]]`", RoleSink: "Sinks: `[pipeline.NAME.sink]`, or `[[pipeline.NAME.sink]]` for several",
		RoleDeadLetter: "Dead letters: `[pipeline.NAME.dead_letter]`",
	}
	docs := map[string]string{
		RoleSource: "Where the records come from.", RoleDecode: "How the bytes of a record become columns.",
		RoleStep: "What happens to the records on their way, in the order of the file.", RoleSink: "Where the rows go. Several sinks are parts of the same checkpoints. The keys below hold for every type.",
		RoleDeadLetter: "Where records go that can't be decoded, transformed or stored, with their bytes and the reason. It is a sink of the " +
			"same checkpoint. Without this table such a record stops the pipeline. The keys below hold for every type.",
	}
	for _, role := range pluginRoles() {
		own := Spec{Doc: docs[role]}
		own.Keys = roleSpec(role).Keys
		r.section(titles[role], &own)
		r.plugins(typeKey, reg.Roles[role])
	}
	if encoders := reg.Roles[RoleEncode]; len(encoders) > 0 {
		r.section("Encoders: `encode = { type = \"…\" }` of a sink", &Spec{Doc: "How the rows of a sink become bytes, where the sink has a key `encode` or `key_encode`."})
		r.plugins(typeKey, encoders)
	}
	r.section("`[pipeline.NAME.checkpoint]`", &checkpoint)
	r.WriteString("The key `store` selects the checkpoint store (default `" + quote(storeDefault) + "`); its keys stand in the same table.\n\n")
	r.plugins(storeKey, reg.Roles[RoleStore])
	state, eventTime := stateSpec(), eventTimeSpec()
	r.section("`[pipeline.NAME.state]`", &state)
	r.section("`[pipeline.NAME.event_time]`", &eventTime)
	r.section("`[pipeline.NAME.restart]`", &restart)
	return []byte(strings.TrimRight(r.String(), "\n") + "\n")
}

// reference writes a reference.
type reference struct {
	strings.Builder
}

func (r *reference) section(title string, spec *Spec) {
	r.WriteString("## " + title + "\n\n" + strings.Join(strings.Fields(spec.Doc), " ") + "\n\n")
	r.keys(spec)
}

func (r *reference) plugins(selector string, specs []Spec) {
	for i := range specs {
		r.WriteString("### `" + selector + " = " + quote(specs[i].Type) + "`\n\n" + strings.Join(strings.Fields(specs[i].Doc), " ") + "\n\n")
		r.keys(&specs[i])
	}
}

func (r *reference) keys(spec *Spec) {
	if len(spec.Keys) == 0 {
		return
	}
	r.WriteString("| key | type | default | limits | what |\n|---|---|---|---|---|\n")
	r.rows("", spec)
	r.WriteString("\n")
}

// rows writes one row per key; the keys of a table within follow it under their full names.
func (r *reference) rows(prefix string, spec *Spec) {
	for i := range spec.Keys {
		k := &spec.Keys[i]
		name := prefix + k.Name
		value := "–"
		switch {
		case k.Required:
			value = "required"
		case k.Default != "":
			value = "`" + k.literal(k.Default) + "`"
		}
		r.WriteString("| `" + name + "` | " + k.Kind.String() + " | " + cell(value) + " | " + cell(k.limits()) + " | " + cell(k.Doc) + " |\n")
		switch k.Kind { //nolint:exhaustive // the other kinds have no table
		case KindTable:
			r.rows(name+".", k.table())
		case KindTables:
			r.rows(name+"[].", k.table())
		case KindTableMap:
			r.rows(name+".NAME.", k.table())
		}
	}
}

// cell makes text fit into one cell of a table.
func cell(text string) string {
	return strings.ReplaceAll(strings.Join(strings.Fields(text), " "), "|", `\|`)
}
