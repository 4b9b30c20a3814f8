drop table event;
drop function refuse_change();
