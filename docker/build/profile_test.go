package main

import (
	"os"
	"strings"
	"testing"
)

func TestEachProfileHasItsFileAndAProjectOfItsOwn(t *testing.T) {
	t.Chdir("../..")
	compose, err := os.ReadFile("compose.yaml")
	if err != nil {
		t.Fatal(err)
	}
	projects := map[string]string{}
	for profile, servers := range map[string]string{"single": "localhost:9410", "pair": "localhost:9410,localhost:9411",
		"triple": "localhost:9410,localhost:9411,localhost:9412"} {
		t.Setenv("PROFILE", profile)
		file, err := envFile()
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"COMPOSE_PROJECT_NAME", "COMPOSE_PROFILES", "TERRACOTTA_PORT", "TERRACOTTA2_PORT", "TERRACOTTA3_PORT", "CONTACT_SERVER"} {
			if value, set := os.LookupEnv(name); set {
				os.Unsetenv(name)
				t.Cleanup(func() { os.Setenv(name, value) })
			}
		}
		env := environment(file)
		if env["COMPOSE_PROFILES"] != profile {
			t.Errorf("%s is for profile %q", file, env["COMPOSE_PROFILES"])
		}
		if env.servers() != servers {
			t.Errorf("the servers of %s are at %q, want %q", profile, env.servers(), servers)
		}
		if other := projects[env.project()]; other != "" || env.project() == "" {
			t.Errorf("%s and %s have one project %q", profile, other, env.project())
		}
		projects[env.project()] = profile
		want := map[string]string{
			"single": "docker-compose run --rm tool status -n MyCluster -s terracotta",
			"pair":   "docker-compose --env-file docker/pair.env run --rm tool status -n MyCluster -s terracotta-1",
			"triple": "docker-compose --env-file docker/triple.env run --rm tool status -n MyCluster -s terracotta-1",
		}[profile]
		if got := env.statusCommand([]string{"docker-compose"}, file); got != want {
			t.Errorf("the status of %s is shown by %q, want %q", profile, got, want)
		}
		for _, host := range strings.Split(env["CLUSTER_HOSTS"], ",") {
			if host != "" && !strings.Contains(string(compose), "hostname: "+host+"\n") {
				t.Errorf("%s names %q, which is no service", file, host)
			}
		}
	}
	t.Setenv("PROFILE", "quartet")
	if _, err := envFile(); err == nil || !strings.Contains(err.Error(), "single, pair and triple") {
		t.Errorf("error is %v", err)
	}
}
