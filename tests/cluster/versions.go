// Package cluster holds no code: its go.mod names the programs that the test cluster is built from.
package cluster
