package main

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"strconv"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	phasegate "github.com/phasegate/phasegate/sdk/go"
	v1 "github.com/phasegate/phasegate/sdk/go/phasegatev1"
)

// watch is one that was begun. It takes an update from the SDK only when it is asked for one.
type watch struct {
	asked chan func(update any, err error)
	stop  context.CancelFunc
	gone  context.Context
}

func begin(client *phasegate.Client, command command) (*watch, error) {
	var from phasegate.Position
	if command.From != nil {
		from = phasegate.Position{Revision: command.From.Revision, StoreID: command.From.StoreID}
	}
	gone, stop := context.WithCancel(background)
	begun := &watch{
		// Nobody asks so often without waiting for an answer.
		asked: make(chan func(any, error), 1024), stop: stop, gone: gone,
	}
	switch command.Kind {
	case "release":
		go serve(begun, client.ResumeRelease(gone, command.Name, from))
	case "releases":
		filter := &v1.ReleaseFilter{}
		if err := readMessage(command.Filter, filter); err != nil {
			stop()
			return nil, err
		}
		go serve(begun, client.ResumeReleases(gone, filter, from))
	case "audit":
		go serve(begun, client.WatchAuditEntries(gone, from))
	default:
		stop()
		return nil, nonsense("nothing of the kind %q can be watched", command.Kind)
	}
	return begun, nil
}

// ask has the next update given to the function.
func (w *watch) ask(answer func(update any, err error)) { w.asked <- answer }

func serve[U any](w *watch, updates iter.Seq2[U, error]) {
	next, leave := iter.Pull2(updates)
	defer leave()
	for answer := range w.asked {
		update, err, more := next()
		switch {
		case !more, w.gone.Err() != nil:
			answer(object{"end": true}, nil)
		case err != nil:
			answer(nil, err)
		default:
			answer(updateObject(update), nil)
		}
	}
}

func updateObject(update any) object {
	switch update := update.(type) {
	case phasegate.ReleaseSnapshot:
		return object{
			"type": "snapshot", "release": message(update.Release),
			"position": positionObject(update.Position), "serverTime": timeText(update.ServerTime),
		}
	case phasegate.ReleaseChange:
		return object{
			"type": "change", "release": message(update.Release), "events": messages(update.Events),
			"position": positionObject(update.Position), "serverTime": timeText(update.ServerTime),
		}
	case phasegate.ReleasesSnapshot:
		return object{
			"type": "snapshot", "releases": messages(update.Releases),
			"position": positionObject(update.Position), "serverTime": timeText(update.ServerTime),
		}
	case phasegate.ReleasesChanges:
		return object{
			"type": "changes", "changes": messages(update.Changes),
			"position": positionObject(update.Position), "serverTime": timeText(update.ServerTime),
		}
	case phasegate.AuditEntry:
		return object{
			"type": "entry", "entry": message(update.Entry), "position": positionObject(update.Position),
		}
	case phasegate.Bookmark:
		return object{"type": "bookmark", "position": positionObject(update.Position)}
	case phasegate.Interrupted:
		return object{"type": "interrupted", "error": errorObject(update.Err)}
	case phasegate.Resumed:
		return object{"type": "resumed"}
	case phasegate.Restarted:
		return object{"type": "restarted", "error": errorObject(update.Err)}
	default:
		panic(fmt.Sprintf("the runner does not know the update %T", update))
	}
}

func positionObject(position phasegate.Position) object {
	return object{"revision": strconv.FormatInt(position.Revision, 10), "storeId": position.StoreID}
}

func timeText(time time.Time) json.RawMessage { return message(timestamppb.New(time)) }
