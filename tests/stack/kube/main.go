// kube is the test stack's Kubernetes in one binary: it runs the stock command named by argv[0] (or argv[1]). Built with the tag apiserver
// it has the API server alone: of older versions not all of the others can be had.
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
)

var commands = map[string]func(){
	"kube-apiserver": func() { os.Exit(cli.Run(apiserver.NewAPIServerCommand())) },
}

func main() {
	name := filepath.Base(os.Args[0])
	if name == "kube" && len(os.Args) > 1 {
		os.Args = os.Args[1:]
		name = filepath.Base(os.Args[0])
	}
	command, known := commands[name]
	if !known {
		fmt.Fprintln(os.Stderr, "kube: unknown command", name)
		os.Exit(2)
	}
	command()
}
