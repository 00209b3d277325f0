// A worker: serves the sessions of a task by repeating what is said, word by word.
//
//	worker my-task
//
// With nothing to do for a second, a run waits without holding a place. `/hand-over` makes it hand the session to a new run,
// as for an upgrade; `/close` makes it close the session. The loop in work_loop.go keeps the leases, comes back when the network
// breaks or the server restarts, and asks again for what was left open.
package main

import (
	"context"
	"encoding/json"
	"os"
	"strings"

	"google.golang.org/grpc/status"

	"example.com/continuo/v1"
)

// Called for a fresh run, and again whenever a run that waited goes on; its output, or nothing where it was suspended.
func echo(run *runContext) (interface{}, error) {
	if run.isResumed {
		report("resumed", fields{"run": run.id})
	} else {
		var payload struct{ Continuation bool }
		_ = json.Unmarshal([]byte(run.payload), &payload)
		report("took", fields{"run": run.id, "continuation": payload.Continuation})
	}
	nextSeqNum := run.inSeqNum
	for {
		record, err := run.next()
		if err != nil {
			return nil, err
		}
		if record == nil {
			// Nothing more is there: give the place back, and be called again when there is.
			isSuspended, err := run.waitForInput(nextSeqNum)
			if err != nil {
				return nil, err
			}
			if isSuspended {
				report("suspended", fields{"run": run.id})
				return nil, nil
			}
			continue
		}
		nextSeqNum = record.SeqNum + 1
		for _, word := range strings.Fields(string(record.Body)) {
			run.append(&continuo.NewRecord{Body: []byte(word)})
		}
		run.turnComplete(record.SeqNum)
		if err := run.flush(); err != nil {
			return nil, err
		}
		switch string(record.Body) {
		case "/hand-over":
			next, err := run.endAndContinue("upgrade")
			if err != nil {
				return nil, err
			}
			report("handed over", fields{"run": run.id, "next": next})
			return "handed over", nil
		case "/close":
			if err := closeSession(run); err != nil {
				return nil, err
			}
			report("closed", fields{"run": run.id})
			return "closed", nil
		}
	}
}

// A run may not close its session, whoever holds the key may.
func closeSession(run *runContext) error {
	reason := "said so"
	request := &continuo.CloseSessionRequest{Session: run.session, Reason: &reason, CallingRunId: &run.id}
	return run.persist(func(context.Context) error {
		_, err := run.sessions.CloseSession(bearer(context.Background(), key), request)
		return err
	})
}

func main() {
	err := work(os.Args[1], echo)
	info := errorInfo(err)
	report("refused", fields{"code": status.Code(err), "reason": info.GetReason(), "metadata": info.GetMetadata()})
	os.Exit(1)
}
