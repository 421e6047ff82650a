// Package config turns a TOML file into sections that keep the file, line and column of every key, checks them against the
// specs that plugins export, and fills their settings structs.
//
// It is strict: an unknown key, a wrong type, a value outside its limits or a missing key is an [Error] at its place, with
// what was expected and the likely remedy. A file is always read to its end, so that one run reports everything that is
// wrong with it. The package knows no plugin: which types exist for a role comes in as a [Registry].
//
// The usual way: [Load] the file, [File.Daemon] and [File.Pipelines], let each plugin [Section.Decode] its section and add
// its own findings with [Section.Errorf], then ask [File.Err] once.
package config
