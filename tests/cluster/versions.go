// Package cluster only carries the tool dependencies of go.mod.
package cluster
