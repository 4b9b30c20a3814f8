drop table idempotency;
drop table state;
