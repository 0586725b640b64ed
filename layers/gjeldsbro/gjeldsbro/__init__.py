"""gjeldsbro: the back office of a debt information company.

``domain`` holds the rules and knows no AWS, ``services`` the use cases, ``adapters`` what talks to the outside.
Imports point one way: functions -> services -> domain; adapters implement what services ask for.
"""
