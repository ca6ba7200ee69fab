// Package phasegate is the client of Phasegate for Go programs.
//
// What it promises:
//
//   - every call of the API as a method of [Client], with the generated messages of phasegatev1;
//   - a call that changes something carries a request id, so that it is made again after a lost connection and
//     still done once;
//   - [Client.WatchRelease], [Client.WatchReleases] and [Client.WatchAuditEntries] survive lost connections,
//     restarts and upgrades of the server; they say so if they had to begin anew;
//   - one [Error], with its [Reason] as a constant.
//
// What is deliberately absent: caching, and the evaluation of flags inside the program, which the providers of
// OpenFeature do.
//
//	client, err := phasegate.Connect(ctx, "http://127.0.0.1:7433", phasegate.WithPrincipal("ann@example.com"))
//	if err != nil {
//		return err
//	}
//	defer client.Close()
//
//	_, err = client.PauseRelease(ctx, &phasegatev1.PauseReleaseRequest{Name: "releases/checkout-v2-1"})
//	switch phasegate.ReasonOf(err) {
//	case phasegate.ReasonAlreadyPaused:
//		fmt.Println("somebody was quicker")
//	case phasegate.ReasonNone:
//		// Done, or not even refused: the network's error, if there is one.
//	}
package phasegate

// Version is the version of this module.
const Version = "0.1.0"
