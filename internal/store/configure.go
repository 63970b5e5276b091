package store

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/terracotta-go/terracotta/internal/wire"
)

func (a *step) configure(document, license []byte) *wire.Error {
	if a.cluster != nil {
		return a.alreadyConfigured(document, license)
	}
	c, resources, err := readCluster(document, license)
	if err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.cluster, a.document, a.resources = c, bytes.Clone(document), resources
	a.limitHeld()
	return nil
}

// alreadyConfigured compares bytes, not what this build reads in them: servers of
// different versions must decide alike.
func (a *step) alreadyConfigured(document, license []byte) *wire.Error {
	name := a.cluster.Name
	var c wire.Cluster
	if err := json.Unmarshal(document, &c); err != nil {
		return badRequest("cluster configuration: " + err.Error())
	}
	switch {
	case c.Name != name:
		return &wire.Error{Word: wire.ErrConfigured, Text: fmt.Sprintf("already configured as cluster %q", name)}
	case string(license) != a.cluster.License:
		return &wire.Error{Word: wire.ErrConfigured, Text: fmt.Sprintf("cluster %q is already configured with another licence", name)}
	case !bytes.Equal(document, a.document):
		return &wire.Error{Word: wire.ErrConflict, Text: fmt.Sprintf("cluster %q is already configured with another configuration", name)}
	}
	return nil
}

// readCluster reads a cluster's configuration and makes its empty resources.
func readCluster(document, license []byte) (*wire.Cluster, []*resource, *wire.Error) {
	c := new(wire.Cluster)
	if err := json.Unmarshal(document, c); err != nil {
		return nil, nil, badRequest("cluster configuration: " + err.Error())
	}
	switch {
	case c.Name == "":
		return nil, nil, badRequest("cluster configuration: the cluster has no name")
	case c.Stripe < 0 || c.Stripe >= len(c.Stripes):
		return nil, nil, badRequest(fmt.Sprintf("cluster configuration: stripe %d is none of %d", c.Stripe, len(c.Stripes)))
	}
	c.License = string(license)
	var list []*resource
	for _, r := range c.Stripes[c.Stripe].OffheapResources {
		if r.Name == "" || findResource(list, r.Name) != nil {
			return nil, nil, badRequest(fmt.Sprintf("cluster configuration: off-heap resource %q has no name or the name of another", r.Name))
		}
		list = append(list, &resource{name: r.Name, size: r.Size})
	}
	return c, list, nil
}

// limitHeld sets what snapshots may hold beside the resources.
func (st *state) limitHeld() {
	size := uint64(0)
	for _, r := range st.resources {
		size += min(r.size, 1<<50)
	}
	st.heldLimit.Store(HeldLimit(size))
}

func findResource(list []*resource, name string) *resource {
	for _, r := range list {
		if r.name == name {
			return r
		}
	}
	return nil
}

func (a *step) open(o *wire.Open) *wire.Error {
	if string(o.Dataset) == RedisDataset && string(o.LockMode) != redisMode {
		return noSessions()
	}
	r, disk, err := a.place(o)
	if err != nil {
		return err
	}
	d := (*a.datasets.Load())[string(o.Dataset)]
	if d != nil {
		if err := d.agrees(o, r, disk); err != nil {
			return err
		}
		if len(o.Tags) > 0 && string(o.Tags) != *d.tags.Load() {
			tags := string(o.Tags)
			d.tags.Store(&tags)
		}
		return nil
	}
	if len(*a.datasets.Load()) >= maxDatasets {
		return &wire.Error{Word: wire.ErrConflict, Text: fmt.Sprintf("there are %d datasets already, and no more are allowed", maxDatasets)}
	}
	segments := o.Concurrency
	if segments == 0 {
		segments = chosenSegments
	}
	d = newDataset(&a.epochs, string(o.Dataset), r, disk, string(o.LockMode), string(o.Tags), segments)
	if err := d.fits(0, d.ownCost()); err != nil {
		return err
	}
	a.install(d)
	return nil
}

// place finds the off-heap resource and the data directory that o names.
func (st *state) place(o *wire.Open) (r *resource, disk string, err *wire.Error) {
	if len(o.Offheap) > 0 {
		r = findResource(st.resources, string(o.Offheap))
	} else if len(st.resources) > 0 {
		r = st.resources[0]
	}
	if r == nil {
		return nil, "", &wire.Error{Word: wire.ErrNoResource, Text: fmt.Sprintf("no off-heap resource %q", o.Offheap)}
	}
	for _, dir := range st.cluster.Stripes[st.cluster.Stripe].DataDirectories {
		if dir.Name == string(o.Disk) || len(o.Disk) == 0 && dir.Platform {
			return r, dir.Name, nil
		}
	}
	if len(o.Disk) > 0 {
		return nil, "", &wire.Error{Word: wire.ErrNoResource, Text: fmt.Sprintf("no data directory %q", o.Disk)}
	}
	return r, "", nil // a cluster in memory only
}

// agrees refuses to open a dataset as what it is not.
func (d *dataset) agrees(o *wire.Open, r *resource, disk string) *wire.Error {
	conflict := func(what, is, wanted any) *wire.Error {
		return &wire.Error{Word: wire.ErrConflict, Text: fmt.Sprintf("dataset %q has %s %v, not %v", d.name, what, is, wanted)}
	}
	switch {
	case d.resource != r:
		return conflict("off-heap resource", d.resource.name, r.name)
	case d.disk != disk:
		return conflict("disk resource", d.disk, disk)
	case d.lockMode != string(o.LockMode):
		return conflict("lock mode", d.lockMode, string(o.LockMode))
	case o.Concurrency != 0 && o.Concurrency != len(d.segments):
		return conflict("concurrency", len(d.segments), o.Concurrency)
	}
	return nil
}
