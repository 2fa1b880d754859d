package main

import (
	"slices"
	"testing"
)

func TestSleepLines(t *testing.T) {
	const text = `package p

import "time"

func f() {
	time.Sleep(1)
	time.Sleep(1) // sleep: the device needs it
	time.Sleep(1) // sleep:
	<-time.After(1)
	<-time.After(1) // sleep: as above
	synctest.Test(t, func(t *testing.T) { time.Sleep(1) })
	for end := 1; end < 2; time.Sleep(1) {
	}
	select {
	case <-time.After(1):
	}
	x.Sleep(1)
	select {
	case <-time.After(1): // sleep: as above
	}
	select {
	case t := <-time.After(1):
	}
	select {
	case <-time.After(1):
	case <-x:
	}
	select {
	case <-time.After(1):
	default:
	}
	select {
	case <-x:
	}
}
`
	got, err := sleepLines([]byte(text))
	if want := []int{6, 8, 9, 12, 15, 22}; err != nil || !slices.Equal(got, want) {
		t.Errorf("sleepLines = %v, %v, want %v", got, err, want)
	}
}
