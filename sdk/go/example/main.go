// A whole release, from its pipeline to its end, watched live:
//
//	phasegate serve --memory &
//	go run ./example
//
// The server is that of PHASEGATE_ADDRESS, http://127.0.0.1:7433 unless given. What exists from a run before is used
// again.
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	phasegate "github.com/phasegate/phasegate/sdk/go"
	v1 "github.com/phasegate/phasegate/sdk/go/phasegatev1"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	address := cmp.Or(os.Getenv("PHASEGATE_ADDRESS"), "http://127.0.0.1:7433")
	client, err := phasegate.Connect(ctx, address, phasegate.WithPrincipal("ann@example.com"))
	if err != nil {
		return err
	}
	defer client.Close()

	if err := prepare(ctx, client); err != nil {
		return err
	}
	name, err := trigger(ctx, client)
	if err != nil {
		return err
	}
	return follow(ctx, client, name)
}

// prepare makes a pipeline of two phases, and a flag that changes along it.
func prepare(ctx context.Context, client *phasegate.Client) error {
	_, err := client.CreatePipeline(ctx, &v1.CreatePipelineRequest{
		PipelineId: "careful",
		Pipeline: &v1.Pipeline{Phases: []*v1.Phase{
			{
				Id:           "canary",
				Rules:        []*v1.TargetingRule{{Id: "few", RolloutBasisPoints: proto.Uint32(500)}},
				BakeDuration: durationpb.New(time.Second),
			},
			{
				Id:           "everyone",
				Rules:        []*v1.TargetingRule{{Id: "all"}},
				BakeDuration: durationpb.New(time.Second),
			},
		}},
	})
	if err != nil && phasegate.ReasonOf(err) != phasegate.ReasonResourceExists {
		return err
	}
	_, err = client.CreateFlag(ctx, &v1.CreateFlagRequest{
		FlagId: "checkout-v2",
		Flag: &v1.Flag{
			Spec:     &v1.Flag_FeatureGate{FeatureGate: &v1.GateSpec{}},
			Pipeline: "pipelines/careful",
		},
	})
	if err != nil && phasegate.ReasonOf(err) != phasegate.ReasonResourceExists {
		return err
	}
	return nil
}

// trigger starts a release that turns the flag on, and gives its name.
func trigger(ctx context.Context, client *phasegate.Client) (string, error) {
	release, err := client.TriggerRelease(ctx, &v1.TriggerReleaseRequest{
		ReleaseId: "checkout-v2-1",
		Release: &v1.Release{
			Flag:   "flags/checkout-v2",
			Change: &v1.Release_FeatureGate{FeatureGate: &v1.GateSpec{DefaultValue: true}},
		},
	})
	if phasegate.ReasonOf(err) == phasegate.ReasonResourceExists {
		return "releases/checkout-v2-1", nil
	}
	return release.GetName(), err
}

// follow tells what happens to the release until it is over, and holds it for a moment in its first phase.
func follow(ctx context.Context, client *phasegate.Client, name string) error {
	for update, err := range client.WatchRelease(ctx, name) {
		if err != nil {
			return err
		}
		switch update := update.(type) {
		case phasegate.ReleaseSnapshot:
			fmt.Println(name, "is", update.Release.State)
			if update.Release.CurrentPhaseId == "canary" {
				if err := hold(ctx, client, name); err != nil {
					return err
				}
			}
		case phasegate.ReleaseChange:
			for _, event := range update.Events {
				kind := strings.TrimPrefix(event.EventType.String(), "RELEASE_EVENT_TYPE_")
				fmt.Println(event.EventTime.AsTime().Format(time.TimeOnly), kind, event.PhaseId)
			}
		case phasegate.Interrupted:
			fmt.Println("interrupted:", update.Err)
		case phasegate.Resumed:
			fmt.Println("resumed")
		case phasegate.Restarted:
			fmt.Println("beginning anew:", update.Err)
		}
	}
	fmt.Println("over")
	return nil
}

// hold pauses the release twice, of which the second is refused, and lets it go on.
func hold(ctx context.Context, client *phasegate.Client, name string) error {
	for range 2 {
		_, err := client.PauseRelease(ctx, &v1.PauseReleaseRequest{Name: name, Reason: "a look at the graphs"})
		var refused *phasegate.Error
		switch {
		case err == nil:
		case errors.As(err, &refused) && refused.Reason == phasegate.ReasonAlreadyPaused:
			fmt.Println("somebody was quicker; it is held from", refused.Metadata["heldState"])
		default:
			return err
		}
	}
	_, err := client.UnpauseRelease(ctx, &v1.UnpauseReleaseRequest{Name: name, Reason: "they look good"})
	return err
}
