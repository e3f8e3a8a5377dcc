"""The Glue catalog, made sure that a commit that happened is never taken for one that did not.

Belongs here: what PyIceberg's Glue catalog lacks. Loaded by name (``catalog.open_catalog``), as its import costs boto3.
"""

from __future__ import annotations

from typing import Any

from pyiceberg.catalog.glue import GlueCatalog
from pyiceberg.exceptions import CommitFailedException


class SureGlueCatalog(GlueCatalog):
    """Looks again before it reports a conflict.

    When the answer to an update is lost, botocore repeats the update, and Glue refuses the repetition because of the
    first one. PyIceberg believes that and deletes the manifests of the commit, which by then is the table's head: no
    one could read the table any more.
    """

    def _update_glue_table(self, database_name: str, table_name: str, table_input: Any, version_id: str) -> None:
        try:
            super()._update_glue_table(database_name, table_name, table_input, version_id)
        except CommitFailedException:
            current = self._convert_glue_to_iceberg(self._get_glue_table(database_name, table_name))
            # Others may have committed on top of ours already.
            landed = {current.metadata_location, *(entry.metadata_file for entry in current.metadata.metadata_log)}
            if table_input["Parameters"]["metadata_location"] not in landed:
                raise
