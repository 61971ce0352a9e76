// istio is the test stack's Istio in one binary: it runs the stock command named by argv[0] (or argv[1]).
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	meshconfig "istio.io/api/mesh/v1alpha1"
	agent "istio.io/istio/pilot/cmd/pilot-agent/app"
	discovery "istio.io/istio/pilot/cmd/pilot-discovery/app"
	istioagent "istio.io/istio/pkg/istio-agent"
	"istio.io/istio/pkg/log"
	"istio.io/istio/pkg/security"
	"istio.io/istio/security/pkg/nodeagent/sds"
)

var commands = map[string]func() *cobra.Command{
	"pilot-discovery": discovery.NewRootCommand,
	"pilot-agent": func() *cobra.Command {
		return agent.NewRootCommand(func(options *security.Options, secrets security.SecretManager, keys *meshconfig.PrivateKeyProvider) istioagent.SDSService {
			return sds.NewServer(options, secrets, keys)
		})
	},
}

func main() {
	if filepath.Base(os.Args[0]) == "istio" && len(os.Args) > 1 {
		os.Args = os.Args[1:]
	}
	command, known := commands[filepath.Base(os.Args[0])]
	if !known {
		fmt.Fprintln(os.Stderr, "istio: unknown command", os.Args[0])
		os.Exit(2)
	}
	log.EnableKlogWithCobra()
	if err := command().Execute(); err != nil {
		log.Error(err)
		os.Exit(255)
	}
}
