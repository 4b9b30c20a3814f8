-- The runner refuses this one while the audit log has an entry: checkpoints cannot be made again.
drop table audit_checkpoint;
drop table audit_tile;
