//go:build !linux

package raftlog

import "github.com/hashicorp/raft-wal/types"

func dataSync(types.WritableFile) (bool, error) { return false, nil }
