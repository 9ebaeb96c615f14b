package rig

import "fmt"

// Bars are what figures are held to.
type Bars []bar

type bar struct {
	what, measured string
	met            bool
}

// Bar adds one.
func (b *Bars) Bar(what, measured string, met bool) {
	*b = append(*b, bar{what, measured, met})
}

// Print prints a table of them.
func (b Bars) Print() {
	fmt.Printf("\n| bar | measured | met |\n|---|---|---|\n")
	for _, bar := range b {
		word := "no"
		if bar.met {
			word = "yes"
		}
		fmt.Printf("| %s | %s | %s |\n", bar.what, bar.measured, word)
	}
}
