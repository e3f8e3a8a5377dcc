-- What is known of each link of the registry now; of one that has left it, what was known last.
select
    affiliate_link_id,
    {{ last_of('product_id', 'as_of') }} as product_id,
    {{ last_of('network', 'as_of') }} as network
from {{ source('bronze', 'link_changes') }}
group by affiliate_link_id
