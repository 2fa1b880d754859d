# Judges key files with NetworkManager's own library, libnm: reads a JSON list of [name, text], and writes a JSON list of
# {"error", "warnings", "normal"}. "normal" is the file as libnm writes it after it has normalised it.
import json
import sys

import gi

gi.require_version("NM", "1.0")
from gi.repository import GLib, NM  # noqa: E402

UUID = "00000000-1111-4222-8333-444444444444"


def judge(name, text):
    warnings = []

    def handler(_file, _connection, kind, data, _user):
        context = data.get_context()
        if kind == NM.KeyfileHandlerType.WARN:
            warnings.append("%s.%s: %s" % (context[0], context[1], data.warn_get()[0]))
            return True
        return False

    try:
        file = GLib.KeyFile()
        raw = text.encode("latin-1")
        file.load_from_bytes(GLib.Bytes(raw), GLib.KeyFileFlags.NONE)
        connection = NM.keyfile_read(file, "/nonexistent", NM.KeyfileHandlerFlags.NONE, handler, None)
        setting = connection.get_setting_connection()
        if setting.get_id() is None:
            setting.set_property("id", name.removesuffix(".nmconnection"))
        if setting.get_uuid() is None:
            setting.set_property("uuid", UUID)
        connection.normalize()
        connection.verify()
        normal = NM.keyfile_write(connection, NM.KeyfileHandlerFlags.NONE, None, None).to_data()[0]
        return {"error": "", "warnings": warnings, "normal": normal}
    except GLib.Error as error:
        return {"error": error.message, "warnings": warnings, "normal": ""}


json.dump([judge(*one) for one in json.load(sys.stdin)], sys.stdout)
