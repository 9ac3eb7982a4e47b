// kk holds the programs of a Kubernetes cluster in one binary, so that what they share is compiled, linked and kept once:
// `kk kube-apiserver --secure-port ...`. The tests build it (../toolbox.py) and run it; it is no part of what is installed.
package main

import (
	"context"
	"fmt"
	"os"
	"sort"
	"strings"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/server/v3/etcdmain"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
	"k8s.io/kubectl/pkg/cmd"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllers "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	proxy "k8s.io/kubernetes/cmd/kube-proxy/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	kubelet "k8s.io/kubernetes/cmd/kubelet/app"
)

func component(command func() *cobra.Command) func() int {
	return func() int { return cli.Run(command()) }
}

func kubectl() int {
	if err := cli.RunNoErrOutput(cmd.NewDefaultKubectlCommand()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func etcd() int {
	etcdmain.Main(os.Args)
	return 0
}

var programs = map[string]func() int{
	"etcd":           etcd,
	"kube-apiserver": component(apiserver.NewAPIServerCommand),
	"kube-controller-manager": component(func() *cobra.Command {
		return controllers.NewControllerManagerCommand()
	}),
	"kube-proxy":     component(proxy.NewProxyCommand),
	"kube-scheduler": component(func() *cobra.Command { return scheduler.NewSchedulerCommand() }),
	"kubectl":        kubectl,
	"kubelet": component(func() *cobra.Command {
		return kubelet.NewKubeletCommand(context.Background())
	}),
}

func main() {
	if len(os.Args) > 1 {
		if run, ok := programs[os.Args[1]]; ok {
			os.Args = os.Args[1:]
			os.Exit(run())
		}
	}
	names := make([]string, 0, len(programs))
	for name := range programs {
		names = append(names, name)
	}
	sort.Strings(names)
	fmt.Fprintln(os.Stderr, "usage: kk", strings.Join(names, "|"), "ARGUMENT...")
	os.Exit(2)
}
