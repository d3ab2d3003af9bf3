"""Two valid stories, one in English and one in Chinese. Each call returns a new copy, which a test may change."""

from __future__ import annotations

from shared.generation import JsonObject


def line(speaker: str, text: str, delivery: str = "calm", *, repeats: bool = False) -> JsonObject:
    return {"speaker": speaker, "text": text, "delivery": delivery, "intentional_repetition": repeats}


def english() -> JsonObject:
    """The lamp: two chapters, three scenes, two characters, a refrain and a closing scene that are meant to repeat."""
    return {
        "metadata": {
            "title": "The Whale Who Feared the Dark",
            "logline": "A lighthouse keeper keeps her lamp lit for a whale that cannot sleep.",
            "language": "en",
            "youtube": {
                "title": "The Whale Who Feared the Dark | A Bedtime Story",
                "description": "What do you do when the sea is darker than you are brave? A story for the last light of the day.",
                "tags": ["bedtime story", "whale", "lighthouse", "picture book"],
                "category": "Film & Animation",
                "made_for_kids": True,
            },
            "hashtags": ["#bedtimestory", "#whale"],
        },
        "visuals": {
            "illustration_style": "Loose watercolour on rough paper, indigo and lamp yellow, soft edges, 1950s picture book.",
            "cover_image_description": "A small lighthouse at night, its beam resting on the eye of a great whale.",
        },
        "narrator": {"name": "Grandfather Tide", "gender": "male", "voice_id": "Charon"},
        "characters": [
            {
                "id": "marta",
                "name": "Marta",
                "role": "Keeps the lighthouse; wants nobody to be alone at night.",
                "personality": "Patient, dry, kind.",
                "gender": "female",
                "age": "61",
                "appearance": "Small and broad, brown weathered face, short white hair, grey eyes, a scar on the chin.",
                "clothing": "A yellow oilskin over a navy jumper, black rubber boots, a brass whistle.",
                "expression_and_posture": "Head tilted as if listening, hands behind her back.",
                "voice_id": "Leda",
            },
            {
                "id": "ode",
                "name": "Ode",
                "role": "A young whale that is afraid of the dark.",
                "personality": "Shy, curious, grateful.",
                "gender": "neutral",
                "age": "a calf of two summers",
                "appearance": "A humpback calf, blue-black, a white patch like a moon over the left eye.",
                "clothing": "None; barnacles like freckles along the jaw.",
                "expression_and_posture": "Half under water, one eye out.",
                "voice_id": "Puck",
            },
        ],
        "scenes": [
            {
                "id": "scene-1",
                "description": "The lamp room at dusk: Marta polishes the lens, the sea behind the glass turns violet.",
                "setting": {"place": "A lighthouse", "time": "Dusk, autumn", "atmosphere": "Still, gulls far away"},
                "interactions": [{"character_ids": ["marta"], "action": "She lights the lamp and listens."}],
                "audio_script": [
                    line("narrator", "Every evening, Marta lit the lamp for whoever might need it."),
                    line("marta", "One light, and nobody is alone."),
                ],
                "intentional_repetition": False,
            },
            {
                "id": "scene-2",
                "description": "Black water under the cliff: a whale's eye catches the beam, Marta leans over the rail.",
                "setting": {"place": "Under the cliff", "time": "Midnight", "atmosphere": "Wind, a slow swell"},
                "interactions": [
                    {
                        "character_ids": ["ode", "marta"],
                        "action": "Ode asks for the lamp; Marta turns it down to the sea.",
                    }
                ],
                "audio_script": [
                    line("ode", "Please, could the light look at me a little longer?", "whispering"),
                    line("marta", "One light, and nobody is alone.", "warm", repeats=True),
                ],
                "intentional_repetition": False,
            },
            {
                "id": "scene-3",
                "description": "Morning: the lamp is out, a white patch like a moon sinks under a golden sea.",
                "setting": {"place": "The open sea", "time": "Sunrise", "atmosphere": "Clear and quiet"},
                "interactions": [],
                "audio_script": [line("narrator", "And the sea slept in.", "slowing down")],
                "intentional_repetition": False,
            },
        ],
        "chapters": [
            {"id": "chapter-1", "title": "The Lamp", "scene_ids": ["scene-1", "scene-2"]},
            {"id": "chapter-2", "title": "The Morning", "scene_ids": ["scene-3"]},
        ],
        "tweet_summaries": [
            "A whale that fears the dark, and a keeper who will not let the lamp go out. #bedtimestory"
        ],
    }


def chinese() -> JsonObject:
    """画龙点睛: every text in Chinese; ids, gender and category in ASCII; a documentary's shape, without interactions."""
    return {
        "metadata": {
            "title": "画龙点睛",
            "logline": "画师张僧繇为寺壁上的四条龙画像，唯独不肯点上眼睛。",
            "language": "zh-Hans",
            "youtube": {
                "title": "画龙点睛：一笔之间，龙飞上天｜中国民间故事",
                "description": "为什么他画的龙都没有眼睛？一段千年前的传说，讲给今天的孩子听。",
                "tags": ["画龙点睛", "成语故事", "中国民间故事"],
                "category": "Education",
                "made_for_kids": True,
            },
            "hashtags": ["#画龙点睛", "#成语故事"],
        },
        "visuals": {
            "illustration_style": "水墨淡彩，宣纸纹理，留白，朱砂与石青点缀，南北朝风格。",
            "cover_image_description": "粉墙上一条没有眼睛的白龙，画师的笔尖悬在半空，窗外乌云翻滚。",
        },
        "narrator": {"name": "说书人", "gender": "neutral", "voice_id": "Kore"},
        "characters": [
            {
                "id": "zhang-sengyou",
                "name": "张僧繇",
                "role": "梁朝画师，想让世人明白最后一笔的分量。",
                "personality": "沉静、自信、不喜多言。",
                "gender": "male",
                "age": "五十岁上下",
                "appearance": "清瘦，长须花白，眉骨高，目光明亮，右手指节有墨痕。",
                "clothing": "素色宽袖长袍，黑纱冠，腰间系青色丝带。",
                "expression_and_posture": "微微含笑，执笔而立。",
                "voice_id": "Charon",
            }
        ],
        "scenes": [
            {
                "id": "scene-1",
                "description": "安乐寺的大殿，四条白龙盘绕在粉墙上，画师背对观众，围观的人群屏住呼吸。",
                "setting": {"place": "金陵安乐寺", "time": "梁朝，夏日清晨", "atmosphere": "香烟缭绕，蝉声阵阵"},
                "interactions": [{"character_ids": ["zhang-sengyou"], "action": "他放下画笔，摇头谢绝众人的请求。"}],
                "audio_script": [
                    line("narrator", "墙上的龙，样样都好，只是没有眼睛。", "舒缓"),
                    line("zhang-sengyou", "点了眼睛，它们就要飞走了。", "平静"),
                ],
                "intentional_repetition": False,
            },
            {
                "id": "scene-2",
                "description": "笔尖落下的一瞬，墙壁裂开，两条龙冲破屋顶，乘着乌云和闪电飞向天空。",
                "setting": {"place": "金陵安乐寺", "time": "片刻之后", "atmosphere": "雷电交加，大雨倾盆"},
                "interactions": [],
                "audio_script": [line("narrator", "点了眼睛，它们果然飞走了。", "由慢渐快", repeats=True)],
                "intentional_repetition": False,
            },
        ],
        "chapters": [{"id": "chapter-1", "title": "最后一笔", "scene_ids": ["scene-1", "scene-2"]}],
        "tweet_summaries": ["他画的龙从不点眼睛。人们不信，他便提起了笔——墙裂，雷鸣，龙飞上天。#画龙点睛"],
    }
