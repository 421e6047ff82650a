// Package examples holds the configs beside it, for the demo that runs them.
package examples

import _ "embed"

// WordCount counts the words of text files. Its folder is /tmp/wordcount.
//
//go:embed wordcount/wordcount.toml
var WordCount string

// WordStream counts the words of a topic, without end. Its folder is /tmp/wordstream, its broker localhost:9092.
//
//go:embed wordcount/stream.toml
var WordStream string
