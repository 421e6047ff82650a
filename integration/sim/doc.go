// Package sim runs whole pipelines in virtual time: real source, decoder, tasks, driver and machine, an embedded broker on a
// virtual network, a checkpoint store and sinks in memory that break as a seed says. A seed decides every fault and every
// crash; a failure prints it with the command that repeats it.
package sim
