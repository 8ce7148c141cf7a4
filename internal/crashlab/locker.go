package main

import (
	"bufio"
	"context"
	"database/sql"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"

	_ "modernc.org/sqlite" // the driver "sqlite"
)

// lockEnv makes this program one that locks the store's file until its standard
// input ends. It is a process of its own because that is who locks files in the
// field, and because SQLite maps memory (see faultfs.Disk.Mount).
const lockEnv = "CRASHLAB_LOCK"

// locker is that process, seen from outside.
type locker struct {
	cmd   *exec.Cmd
	input io.WriteCloser
}

// take returns when the store is locked.
func (k *locker) take(ctx context.Context, data string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	k.cmd = exec.CommandContext(ctx, self)
	k.cmd.Env = append(os.Environ(), lockEnv+"="+filepath.Join(data, "store", "tributary.db"))
	k.cmd.Stderr = os.Stderr
	if k.input, err = k.cmd.StdinPipe(); err != nil {
		return err
	}
	out, err := k.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := k.cmd.Start(); err != nil {
		return err
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "locked\n" {
		k.cmd.Process.Kill()
		return fmt.Errorf("the store was not locked: %q, %w", line, err)
	}
	return nil
}

func (k *locker) release() error {
	k.input.Close()
	if err := k.cmd.Wait(); err != nil {
		return fmt.Errorf("who locked the store: %w", err)
	}
	return nil
}

// lockStore is the life of that process.
func lockStore(path string) error {
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=busy_timeout(10000)")
	if err != nil {
		return err
	}
	defer db.Close()
	db.SetMaxOpenConns(1)
	if _, err := db.Exec("BEGIN IMMEDIATE"); err != nil {
		return err
	}
	fmt.Println("locked")
	if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
		return err
	}
	_, err = db.Exec("ROLLBACK")
	return err
}
