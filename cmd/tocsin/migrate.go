package main

type migrateCmd struct {
	configFlags
	DryRun bool `help:"Print the statements that would run and change nothing."`
}

// Help returns what --help prints below the usage.
func (migrateCmd) Help() string {
	return `Brings the database to the state that this version needs. Migrations that ran already are left alone; one whose file
changed since is an error.

Examples:

    tocsin migrate --config tocsin.yaml
    TOCSIN_CLICKHOUSE_URL=http://clickhouse:8123 tocsin migrate --dry-run`
}

// Run runs the command.
func (c *migrateCmd) Run(std streams) error {
	cfg, err := c.load()
	if err != nil {
		return err
	}
	a, err := newApp(std, cfg, c.Config)
	if err != nil {
		return err
	}
	ctx, cancel := a.signals()
	defer cancel()
	err = migrateStore(ctx, a, c.DryRun)
	if serr := a.stop(); err == nil {
		err = serr
	}
	return err
}
