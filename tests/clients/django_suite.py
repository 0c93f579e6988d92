"""Settings for Django's own tests, in the one database that there is."""

import os


def database(test):
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": os.environ["PGDATABASE"],
        "USER": os.environ["PGUSER"],
        "HOST": os.environ["PGHOST"],
        "PORT": os.environ["PGPORT"],
        "TEST": test,
    }


DATABASES = {
    "default": database({"NAME": os.environ["PGDATABASE"]}),
    "other": database({"MIRROR": "default"}),
}
SECRET_KEY = "none"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"
USE_TZ = False
