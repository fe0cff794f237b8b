"""The server's settings, read once from `HPO_*` environment variables."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

LOOPBACK = ("127.0.0.1", "localhost", "::1")


class Settings(BaseSettings):
    """Everything that can be set from outside. Each field is `HPO_<NAME>` in the environment."""

    model_config = SettingsConfigDict(env_prefix="HPO_", frozen=True, extra="ignore")

    data_dir: Annotated[
        Path, Field(description="Folder of the embedded database and of all stored files.")
    ] = Path("data")
    database_url: Annotated[
        str | None,
        Field(description="`postgresql://...` or `sqlite:///file`. Unset: `<data_dir>/hpo.db`."),
    ] = None
    host: Annotated[str, Field(description="Address to listen on.")] = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535, description="Port to listen on.")] = 8000
    token: Annotated[
        SecretStr | None,
        Field(description="Bearer token all callers must send; needed beyond loopback."),
    ] = None
    lease_ttl: Annotated[
        float, Field(ge=1, le=3600, description="Seconds a lease lives without a heartbeat.")
    ] = 60.0
    max_upload_bytes: Annotated[
        int, Field(ge=1, description="Largest data set or artifact taken, in bytes.")
    ] = 1 << 30

    @model_validator(mode="after")
    def _a_token_is_needed_beyond_loopback(self) -> Self:
        if self.host not in LOOPBACK and not self.token_value:
            raise ValueError(
                f"HPO_TOKEN must be set to listen on {self.host}: beyond loopback "
                "every caller has to show a token"
            )
        return self

    @property
    def token_value(self) -> str:
        """The token in clear, empty when none is set."""
        return self.token.get_secret_value() if self.token else ""

    @property
    def url(self) -> str:
        """The database URL to connect to."""
        return self.database_url or f"sqlite:///{self.data_dir / 'hpo.db'}"
