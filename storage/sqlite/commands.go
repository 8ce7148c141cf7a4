package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	"github.com/tributary-iot/tributary/device"
	"github.com/tributary-iot/tributary/device/devicepb"
	"github.com/tributary-iot/tributary/storage"
)

// touchCommand keeps table command true after an event was inserted. The two
// streams are stored independently: an event may come before its request, and
// then waits in command_event until the request makes the row.
func touchCommand(tx *sql.Tx, e *device.StoredEvent, request []byte) error {
	if request == nil {
		_, err := tx.Exec(`UPDATE command SET state = ?, touched = max(touched, ?) WHERE tenant = ? AND id = ? AND device = ?`,
			int64(e.State), micros(e.StoredAt), e.Tenant, e.Command, e.Device)
		return err
	}
	// A second request of the same id changes nothing: one command, one life.
	res, err := tx.Exec(`INSERT INTO command VALUES(?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`,
		e.Tenant, e.Command, e.Device, micros(e.Request.CreatedAt), int64(e.State), micros(e.StoredAt), request)
	if err != nil {
		return err
	}
	if n, err := res.RowsAffected(); err != nil || n == 0 {
		return err
	}
	var state, stored int64
	err = tx.QueryRow(`SELECT state, stored FROM command_event WHERE tenant = ? AND command = ? AND device = ? AND request IS NULL
		ORDER BY epoch DESC, seq DESC LIMIT 1`, e.Tenant, e.Command, e.Device).Scan(&state, &stored)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	if err == nil {
		_, err = tx.Exec(`UPDATE command SET state = ?, touched = max(touched, ?) WHERE tenant = ? AND id = ?`, state, stored, e.Tenant, e.Command)
	}
	return err
}

// Command answers one command with its events.
func (s *Store) Command(ctx context.Context, tenant, devicename, id string) (rec device.CommandRecord, err error) {
	err = s.read(ctx, "command", func(v *view) error {
		var name string
		var request []byte
		err := v.tx.QueryRowContext(ctx, `SELECT device, request FROM command WHERE tenant = ? AND id = ?`, tenant, id).Scan(&name, &request)
		if errors.Is(err, sql.ErrNoRows) || err == nil && devicename != "" && devicename != name {
			return device.Errorf(device.NotFound, "command %q is not known", id)
		}
		if err != nil {
			return err
		}
		cmd, err := devicepb.UnmarshalCommand(request)
		if err != nil {
			return damaged(err.Error())
		}
		rec, err = v.record(cmd)
		return err
	})
	return rec, err
}

// record joins a request with its events: the creation, then the transitions
// in the order of their stream.
func (v *view) record(cmd *device.Command) (rec device.CommandRecord, err error) {
	rec.Command = *cmd
	created := false
	err = v.rows(func(r *sql.Rows) error {
		var body []byte
		var creates bool
		if err := r.Scan(&body, &creates); err != nil {
			return err
		}
		if creates && created {
			return nil // a repeated request
		}
		e, err := devicepb.UnmarshalCommandEvent(body)
		if err != nil {
			return damaged(err.Error())
		}
		if creates {
			created, e.Request = true, cmd
		}
		rec.Events = append(rec.Events, *e)
		return nil
	}, `SELECT body, request IS NOT NULL AS creates FROM command_event WHERE tenant = ? AND command = ? AND device = ?
		ORDER BY creates DESC, epoch, seq`, cmd.Tenant, cmd.ID, cmd.Device)
	return rec, err
}

// Commands lists a tenant's commands, newest first.
func (s *Store) Commands(ctx context.Context, q storage.CommandQuery) (page storage.CommandPage, err error) {
	if err := checkLimit(q.Limit, 1000); err != nil {
		return page, err
	}
	where, args := []string{"tenant = ?"}, []any{q.Tenant}
	if q.Device != "" {
		where, args = append(where, "device = ?"), append(args, q.Device)
	}
	if len(q.States) > 0 {
		where = append(where, "state IN (?"+strings.Repeat(", ?", len(q.States)-1)+")")
		for _, state := range q.States {
			args = append(args, int64(state))
		}
	}
	if q.Cursor != "" {
		var created int64
		id, err := parseCursor(q.Cursor, &created)
		if err != nil {
			return page, err
		}
		where, args = append(where, "(created, id) < (?, ?)"), append(args, created, id)
	}
	query := fmt.Sprintf(`SELECT created, id, request FROM command WHERE %s ORDER BY created DESC, id DESC LIMIT %d`,
		strings.Join(where, " AND "), q.Limit+1)
	err = s.read(ctx, "commands", func(v *view) error { return v.commandPage(&page, &q, query, args) })
	return page, err
}

func (v *view) commandPage(page *storage.CommandPage, q *storage.CommandQuery, query string, args []any) error {
	var requests []*device.Command
	rows := 0
	var created, lastCreated int64
	var id, lastID string
	err := v.rows(func(r *sql.Rows) error {
		var request []byte
		if err := r.Scan(&created, &id, &request); err != nil {
			return err
		}
		if rows++; rows > q.Limit {
			page.Next = makeCursor(lastID, lastCreated)
			return nil
		}
		lastCreated, lastID = created, id
		cmd, err := devicepb.UnmarshalCommand(request)
		if err != nil {
			return damaged(err.Error())
		}
		if q.Key == "" || cmd.Key == q.Key {
			requests = append(requests, cmd)
		}
		return nil
	}, query, args...)
	if err != nil {
		return err
	}
	for _, cmd := range requests {
		rec, err := v.record(cmd)
		if err != nil {
			return err
		}
		page.Records = append(page.Records, rec)
	}
	return nil
}

// Events answers command events of one stream after a position, in its order.
func (s *Store) Events(ctx context.Context, q storage.EventQuery) (out []device.StoredEvent, err error) {
	if err := checkLimit(q.Limit, 10_000); err != nil {
		return nil, err
	}
	where, args := "stream = ? AND tenant = ? AND (epoch, seq) > (?, ?)", []any{q.Stream, q.Tenant, int64(q.After.Epoch), int64(q.After.Seq)}
	if q.Device != "" {
		where, args = where+" AND device = ?", append(args, q.Device)
	}
	err = s.read(ctx, "events", func(v *view) error {
		return v.rows(func(r *sql.Rows) error {
			e, err := scanEvent(r)
			out = append(out, e)
			return err
		}, fmt.Sprintf(`SELECT epoch, seq, stored, body, request FROM command_event WHERE %s ORDER BY epoch, seq LIMIT %d`, where, q.Limit), args...)
	})
	return out, err
}

func scanEvent(r *sql.Rows) (out device.StoredEvent, err error) {
	var epoch, seq, stored int64
	var body, request []byte
	if err := r.Scan(&epoch, &seq, &stored, &body, &request); err != nil {
		return out, err
	}
	e, err := devicepb.UnmarshalCommandEvent(body)
	if err != nil {
		return out, damaged(err.Error())
	}
	if request != nil {
		if e.Request, err = devicepb.UnmarshalCommand(request); err != nil {
			return out, damaged(err.Error())
		}
	}
	return device.StoredEvent{CommandEvent: *e, Position: device.Position{Epoch: uint64(epoch), Seq: uint64(seq)}, StoredAt: fromMicros(stored)}, nil
}
