package phasegate

import "testing"

func TestAConnectionCarriesAHundredWatchesAndAFreedPlaceIsTakenAgain(t *testing.T) {
	opened := 0
	places := seats{open: func() *link {
		opened++
		return &link{}
	}}
	expect := func(connections int) {
		t.Helper()
		if opened != connections {
			t.Errorf("there are %d connections, not %d", opened, connections)
		}
	}
	first, leave := places.take()
	for range watchesPerLink - 1 {
		if on, _ := places.take(); on != first {
			t.Fatal("a watch went elsewhere though there was a place")
		}
	}
	expect(1)
	_, leaveSecond := places.take()
	expect(2)
	leave()
	if on, _ := places.take(); on != first {
		t.Error("the place that was freed is not taken again")
	}
	leaveSecond()
	if on, _ := places.take(); on == first {
		t.Error("the first connection has a watch too many")
	}
	expect(2)
}
