package config

import "strings"

// exampleWidth is the width to which the example's comments are broken.
const exampleWidth = 100

// exampleHead stands at the top of the example; %s is the comment that explains it.
const exampleHead = `# Configuration of ingestd. Generated from the specs of the daemon and its plugins; do not edit.
#
# The first part is active: a small pipeline to start from. The second part shows every key there is. In it, "# " begins a
# comment and "#" without a space a line that can be made active by removing the "#". A key that has a default shows it,
# unless another value is more telling; then the comment names the default.

`

// exampleEvery stands between the two parts of the example.
const exampleEvery = `
# ==================================================================================================
# Every key
# ==================================================================================================
# Durations and sizes are strings with a unit: "250ms", "1h30m", "7d"; "512B", "64MiB", "1GB". In every string
# ${env:NAME} stands for an environment variable and ${file:PATH} for the content of a file (a relative path starts at this
# file's folder); $${ stands for ${ itself.

`

// examplePipeline is the name of the pipeline in the second part.
const examplePipeline = "pipeline.example"

// Example returns the text of config.example.toml: active, a small document that works, then every key of the daemon and of
// reg's plugins in comments, with what it means, its limits and its default. The same arguments give the same bytes.
func Example(reg Registry, active string) []byte {
	var p printer
	p.WriteString(exampleHead + strings.Trim(active, "\n") + "\n" + exampleEvery)
	daemon, pipeline, checkpoint, restart := daemonSpec(), pipelineSpec(), checkpointSpec(), restartSpec()
	p.table("daemon", &daemon, header{open: "[", close: "]"})
	p.table(examplePipeline, &pipeline, header{open: "[", close: "]"})
	for _, role := range pluginRoles() {
		for i := range reg.Roles[role] {
			p.plugin(role, &reg.Roles[role][i])
		}
	}
	state, eventTime := stateSpec(), eventTimeSpec()
	p.title("state")
	p.table(examplePipeline+".state", &state, header{open: "[", close: "]"})
	p.title("event_time")
	p.table(examplePipeline+".event_time", &eventTime, header{open: "[", close: "]"})
	p.title("restart")
	p.table(examplePipeline+".restart", &restart, header{open: "[", close: "]"})
	p.title("checkpoint")
	p.table(examplePipeline+".checkpoint", &checkpoint, header{open: "[", close: "]"})
	for i := range reg.Roles[RoleStore] {
		p.plugin(RoleStore, &reg.Roles[RoleStore][i])
	}
	return []byte(strings.TrimRight(p.String(), "\n") + "\n")
}

// pluginRoles lists the roles whose plugins have a table of their own, in the order of a record's way.
func pluginRoles() []string {
	return []string{RoleSource, RoleDecode, RoleStep, RoleSink, RoleDeadLetter}
}

// roleSpec has the keys that every plugin's table of a role has beside the plugin's.
func roleSpec(role string) Spec {
	switch role {
	case RoleSink:
		return sinkSpec()
	case RoleDeadLetter:
		return deadLetterSpec()
	}
	return Spec{}
}

// header is how the header of a table looks.
type header struct {
	open, close string
	selector    string // the line that selects the plugin, with its line end
}

// printer writes an example.
type printer struct {
	strings.Builder
}

func (p *printer) title(text string) {
	p.WriteString("# ---- " + text + " " + strings.Repeat("-", exampleWidth-len(text)-8) + "\n\n")
}

// plugin writes the table of one plugin.
func (p *printer) plugin(role string, spec *Spec) {
	p.title(role + " " + quote(spec.Type))
	switch role {
	case RoleStep:
		p.table(examplePipeline+".step", spec, header{open: "[[", close: "]]", selector: typeLine(typeKey, spec)})
	case RoleStore:
		p.table(examplePipeline+".checkpoint", spec, header{open: "[", close: "]", selector: typeLine(storeKey, spec)})
	default:
		all := Spec{Type: spec.Type, Doc: spec.Doc, Keys: append(roleSpec(role).Keys, spec.Keys...)}
		p.table(examplePipeline+"."+role, &all, header{open: "[", close: "]", selector: typeLine(typeKey, spec)})
	}
}

func typeLine(selector string, spec *Spec) string {
	return "#" + selector + " = " + quote(spec.Type) + "\n"
}

// table writes a table: its scalars first, then the tables within, as TOML needs it.
func (p *printer) table(path string, spec *Spec, h header) {
	p.comment(spec.Doc)
	p.WriteString("#" + h.open + path + h.close + "\n" + h.selector + "\n")
	for i := range spec.Keys {
		if k := &spec.Keys[i]; k.Table == nil {
			p.key(k)
		}
	}
	for i := range spec.Keys {
		k := &spec.Keys[i]
		if k.Table == nil {
			continue
		}
		within := *k.Table
		within.Doc = strings.TrimSpace(k.Doc + " " + within.Doc)
		name, h := path+"."+k.Name, header{open: "[", close: "]"}
		if k.Kind == KindTables {
			h = header{open: "[[", close: "]]"}
		}
		if k.Kind == KindTableMap {
			name += ".name"
		}
		p.table(name, &within, h)
	}
}

func (p *printer) key(k *Key) {
	p.comment(k.Doc)
	facts := k.Kind.String()
	switch limits := k.limits(); {
	case limits == "":
	case k.Kind == KindEnum:
		facts += " " + limits
	default:
		facts += ", " + limits
	}
	switch {
	case k.Required:
		facts += "; required"
	case k.Default != "":
		facts += "; default " + k.literal(k.Default)
	default:
		facts += "; optional"
	}
	p.comment("(" + facts + ")")
	p.WriteString("#" + k.Name + " = " + k.literal(k.shownValue()) + "\n\n")
}

// comment writes text as comment lines.
func (p *printer) comment(text string) {
	line := "#"
	for word := range strings.FieldsSeq(text) {
		if len(line)+1+len(word) > exampleWidth && line != "#" {
			p.WriteString(line + "\n")
			line = "#"
		}
		line += " " + word
	}
	if line != "#" {
		p.WriteString(line + "\n")
	}
}

// shownValue is the value that the example shows.
func (k *Key) shownValue() string {
	switch {
	case k.Example != "":
		return k.Example
	case k.Default != "":
		return k.Default
	}
	switch k.Kind {
	case KindStrings:
		return "[]"
	case KindInt:
		return "0"
	case KindFloat:
		return "0.0"
	case KindBool:
		return "false"
	case KindDuration:
		return "1s"
	case KindBytes:
		return "1MiB"
	case KindTime:
		return "2026-01-31T12:00:00Z"
	case KindSecret:
		return "${env:NAME}"
	case KindEnum:
		if len(k.Enum) > 0 {
			return k.Enum[0]
		}
	case KindStringMap, KindIntMap:
		return "{}"
	case KindString, KindTable, KindTables, KindTableMap, KindSection:
	}
	return ""
}

// literal writes a spec's text as TOML.
func (k *Key) literal(text string) string {
	if k.bare() && (text == "" || text[0] != '"') {
		return quote(text)
	}
	return text
}

// limits describes Enum, Min and Max; "" if there are none.
func (k *Key) limits() string {
	switch k.Kind {
	case KindEnum:
		return quoteAll(k.Enum)
	case KindString, KindSecret:
		return strings.TrimSpace(k.bounds("", " character"))
	case KindStrings:
		return strings.TrimSpace(k.bounds("", " element"))
	case KindInt, KindFloat, KindBool, KindDuration, KindBytes, KindTime, KindTable, KindTables, KindStringMap, KindIntMap,
		KindTableMap, KindSection:
	}
	return strings.TrimSpace(k.bounds("", ""))
}
