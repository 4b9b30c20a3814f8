-- For SQLite alone: PostgreSQL keeps keys in indexes and long values out of line.
select 1;
