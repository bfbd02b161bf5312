//go:build profile

package command

import (
	"os"
	"path/filepath"
	"runtime/pprof"
	"strconv"
)

// profiles is the folder, which is there already, that a program built with -tags profile writes a CPU profile of its run
// to. The linker sets it: `task pgo` makes default.pgo from such profiles.
var profiles = "."

func init() {
	startProfile = func() (stop func()) {
		f, err := os.Create(filepath.Join(profiles, "cpu-"+strconv.Itoa(os.Getpid())+".pprof"))
		if err == nil {
			err = pprof.StartCPUProfile(f)
		}
		if err != nil {
			panic(err)
		}
		return func() {
			pprof.StopCPUProfile()
			f.Close()
		}
	}
}
