-- How visits are named. A visit sent by the client keeps its id; the second piece of one over the cap is `id#2`.
-- A visit derived from its visitor is `#:<user_id_hash>#<start, epoch ms>`. A `#` inside an id is doubled, so no
-- client can send an id that reads as one of ours.
create or replace macro session_key(session_id, user_id_hash) as
    coalesce(replace(session_id, '#', '##'), '#:' || replace(user_id_hash, '#', '##'));

create or replace macro session_key_of(resolved_id) as
    case
        when not contains(resolved_id, '#') then resolved_id
        when starts_with(resolved_id, '#:') then regexp_extract(resolved_id, '^(#:(?:[^#]|##)*)#[0-9]+$', 1)
        else regexp_extract(resolved_id, '^((?:[^#]|##)*)(?:#[0-9]+)?$', 1)
    end;

-- Silence longer than this ends a chain of events of one key: the inactivity timeout for derived visits; the cap for
-- sent ones, as an event after such a silence starts a new visit under the cap anyway.
create or replace macro session_gap(key) as
    case when starts_with(key, '#:') then {timeout} else {cap} end;
